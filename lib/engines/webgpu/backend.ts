/**
 * TensorFlow.js's `webgpu` backend, with what it lacks here: reading a tensor at once, and a sentence where
 * the card's memory ends or the card is gone.
 */
import * as tf from "@tensorflow/tfjs";
import { webgpu_util, WebGPUBackend } from "@tensorflow/tfjs-backend-webgpu";
import { size } from "../../tensor/shape.ts";
import { type Queue, type Reader, reader } from "./read.ts";

/** What the package keeps to itself: the commands that are not sent yet, and its books. */
interface Private {
  commandEncoder: GPUCommandEncoder;
  bufferManager: {
    /** those that no tensor holds any more, kept for the next of their size */
    freeBuffers: Map<string, GPUBuffer[]>;
    numFreeBuffers: number;
    numBytesAllocated: number;
  };
}

/** The tensors of one device. */
export class Backend extends WebGPUBackend {
  /** why the device is gone, once it is */
  lost?: string;
  /** what the device said went wrong since the last read */
  private trouble?: string;
  private readonly reader: Reader;

  constructor(device: GPUDevice, info: GPUAdapterInfo, reader: Reader) {
    super(device, info);
    this.reader = reader;
    device.lost.then(({ reason, message }) => this.lost = message || reason);
    device.addEventListener("uncapturederror", ({ error }) => this.trouble ??= error.message);
    const create = device.createBuffer.bind(device);
    device.createBuffer = (descriptor) => this.create(create, descriptor);
  }

  override readSync(dataId: object): tf.BackendValues {
    const { values, dtype, shape, resource } = this.tensorMap.get(dataId);
    if (values || dtype === "string" || dtype === "complex64") return super.readSync(dataId);
    const bytes = webgpu_util.GPUBytesPerElement(dtype) * size(shape);
    let read: ArrayBuffer | undefined, trouble: string | undefined;
    try {
      read = this.reader(resource as GPUBuffer, bytes, this.commands);
    } catch (error) {
      trouble = (error as Error).message;
    }
    trouble = this.lost ?? this.trouble ?? trouble;
    this.trouble = undefined;
    if (read && !trouble) return tf.util.convertBackendValuesAndArrayBuffer(read, dtype);
    throw new Error(
      `Cannot read a tensor as engine "webgpu" must have computed it: ${trouble}` +
        (this.lost ? `; engine.use("webgpu") starts anew, without the tensors` : ""),
    );
  }

  private readonly commands: Queue = {
    record: () => {
      this.ensureCommandEncoderReady();
      this.endComputePassEncoder();
      return (this as unknown as Private).commandEncoder;
    },
    submit: () => this.submitQueue(),
  };

  /** Deno waits for the card either way, and for ten milliseconds more where a promise is asked for. */
  override read(dataId: object): Promise<tf.BackendValues> {
    return new Promise((resolve) => resolve(this.readSync(dataId)));
  }

  /** The package writes whole numbers and truths with other axes as if they were float32, which no shader may. */
  override runWebGPUProgram(
    ...call: Parameters<WebGPUBackend["runWebGPUProgram"]>
  ): tf.TensorInfo {
    const [program, [input]] = call;
    if (
      program.shaderKey.startsWith("transpose_") &&
      this.tensorMap.get(input.dataId).dtype !== "float32"
    ) {
      const code = program.getUserCode();
      program.getUserCode = () => code.replace("A[", "f32(A[").replace("]);", "]));");
    }
    return super.runWebGPUProgram(...call);
  }

  /** A buffer; where memory ends, those that wait for their next use are given up for it. */
  private create(create: GPUDevice["createBuffer"], descriptor: GPUBufferDescriptor): GPUBuffer {
    const refuse = (rule: string, now: string) =>
      new Error(
        `Cannot hold a tensor of ${megabytes(descriptor.size)} on engine "webgpu" as ${rule}: ` +
          `${now}; take smaller batches or another engine`,
      );
    const { maxBufferSize, maxStorageBufferBindingSize } = this.device.limits;
    const limit = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    if (descriptor.size > limit) {
      throw refuse("it must fit in one buffer", `current limit is ${megabytes(limit)}`);
    }
    const attempt = () => valid(this.device, () => create(descriptor));
    const buffer = attempt() ?? (this.trim(), attempt());
    if (buffer) return buffer;
    const taken = `current tensors take ${megabytes(this.bufferManager.numBytesUsed)}`;
    throw refuse("the card must have memory left", this.lost ?? taken);
  }

  /** Destroys the buffers that no tensor holds. */
  private trim(): void {
    const { bufferManager: pool } = this as unknown as Private;
    for (const buffers of pool.freeBuffers.values()) {
      for (const buffer of buffers.splice(0)) {
        pool.numFreeBuffers--;
        pool.numBytesAllocated -= buffer.size;
        buffer.destroy();
      }
    }
  }
}

const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;

/** The buffer, unless the card has refused it: then even asking for none of its bytes is refused in other words. */
function valid(device: GPUDevice, create: () => GPUBuffer): GPUBuffer | undefined {
  const kinds = ["out-of-memory", "validation"] as const;
  for (const kind of kinds) device.pushErrorScope(kind);
  const buffer = create();
  for (const _ of kinds) device.popErrorScope().catch(() => {}); // said here, so nowhere else
  try {
    buffer.getMappedRange(0, 0);
  } catch (error) {
    if (/invalid/.test((error as Error).message)) return undefined;
  }
  return buffer;
}

/**
 * A backend on a device of the adapter's own.
 *
 * @throws {Error} where the device cannot be had or cannot be read at once
 */
export async function open(adapter: GPUAdapter): Promise<Backend> {
  const { limits, features, info } = adapter;
  const device = await adapter.requestDevice({
    requiredFeatures: features.has("timestamp-query") ? ["timestamp-query"] : [],
    requiredLimits: {
      maxBufferSize: limits.maxBufferSize,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      maxComputeWorkgroupsPerDimension: limits.maxComputeWorkgroupsPerDimension,
      maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
      maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
    },
  });
  return new Backend(device, info, await reader(device));
}
