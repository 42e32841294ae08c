/** TensorFlow by the addon of an installed tfjs-node or tfjs-node-gpu, without their JavaScript. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import process from "node:process";
import { allowed } from "../environment.ts";
import { type Attribute, codeOf, type TensorFlow, type Type, typeOf, TYPES } from "./api.ts";

/** What the addon exports, as far as it is used; a tensor is a number. */
interface Binding {
  TF_Version: string;
  isUsingGpuDevice(): boolean;
  createTensor(shape: readonly number[], type: number, data: ArrayBufferView): number;
  deleteTensor(id: number): void;
  tensorDataSync(id: number): ArrayBufferView;
  executeOp(
    name: string,
    attributes: { name: string; type: number; value: unknown }[],
    inputs: readonly number[],
    results: number,
  ): { id: number; shape: number[]; dtype: number }[];
}

const PACKAGES = ["@tensorflow/tfjs-node-gpu", "@tensorflow/tfjs-node"];

/**
 * The addon that the working folder's packages have; undefined where there is none.
 *
 * @throws {Error} where it cannot be loaded
 */
export function addon(): Binding | undefined {
  if (!allowed({ name: "read" })) return;
  const require = createRequire(join(process.cwd(), "package.json"));
  for (const name of PACKAGES) {
    let folder;
    try {
      folder = dirname(require.resolve(`${name}/package.json`));
    } catch {
      continue; // not installed
    }
    const path = join(folder, "lib", "napi-v8", "tfjs_binding.node");
    if (existsSync(path)) return require(path);
  }
}

/** TF_AttrType's numbers, and values as the addon takes them. */
function spelled(value: Attribute): { type: number; value: unknown } {
  if (typeof value === "string") return { type: 0, value };
  if (typeof value === "boolean") return { type: 3, value };
  if ("length" in value) return { type: 1, value };
  if ("int" in value) return { type: 1, value: value.int };
  if ("float" in value) return { type: 2, value: value.float };
  return { type: 4, value: codeOf(value.type) };
}

/** The bytes as the array that the addon wants for a type. */
function typed(bytes: Uint8Array, type: Type): ArrayBufferView {
  if (type === "bool") return bytes;
  const { buffer } = bytes.slice();
  return type === "int32" ? new Int32Array(buffer) : new Float32Array(buffer);
}

/** The library behind an addon; how many threads compute is its own affair. */
export function adopt(binding: Binding): TensorFlow {
  return {
    version: binding.TF_Version,
    gpu: binding.isUsingGpuDevice() ? "a GPU" : undefined,
    create: (bytes, shape, type) =>
      binding.createTensor(shape, TYPES[type].code, typed(bytes, type)),
    remove: (id) => binding.deleteTensor(id),
    read(id) {
      const { buffer, byteOffset, byteLength } = binding.tensorDataSync(id);
      return new Uint8Array(buffer, byteOffset, byteLength).slice();
    },
    execute(name, inputs, attributes, results) {
      const list = Object.entries(attributes).map(([name, value]) => ({ name, ...spelled(value) }));
      return binding.executeOp(name, list, inputs, results)
        .map(({ id, shape, dtype }) => ({ handle: id, shape, type: typeOf(dtype) }));
    },
  };
}
