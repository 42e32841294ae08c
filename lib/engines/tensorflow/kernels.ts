/** The table of TensorFlow.js's kernels on TensorFlow; what is not in it computes in the `cpu` backend. */
import * as tf from "@tensorflow/tfjs";
import { ARRANGE } from "./arrange.ts";
import { CONTRACT } from "./contract.ts";
import { ELEMENTWISE } from "./elementwise.ts";
import type { Call, Kernel } from "./kernel.ts";

const KERNELS: Record<string, Kernel> = { ...ELEMENTWISE, ...ARRANGE, ...CONTRACT };

/** Runs a kernel and removes what it made besides its result. */
function compose(kernel: Kernel, call: Call): tf.TensorInfo | tf.TensorInfo[] | undefined {
  const made: tf.TensorInfo[] = [];
  let result: ReturnType<Kernel>;
  try {
    return result = kernel(call, (name, inputs, attributes) => {
      const [tensor] = call.backend.run(name, inputs, attributes);
      made.push(tensor);
      return tensor;
    });
  } finally {
    for (const tensor of made) if (tensor !== result) call.backend.disposeData(tensor.dataId);
  }
}

/** The kernel of the `cpu` backend, with its inputs and results carried there and back. */
function carried(kernelName: string, { inputs, attrs, backend }: Call) {
  const { kernelFunc } = tf.getKernel(kernelName, "cpu");
  const cpu = tf.findBackend("cpu");
  const made: tf.TensorInfo[] = [];
  const there = (x: tf.TensorInfo) => {
    if (!x) return x;
    const dataId = cpu.write(backend.readSync(x.dataId), x.shape, x.dtype);
    const tensor = { dataId, shape: x.shape, dtype: x.dtype };
    made.push(tensor);
    return tensor;
  };
  const back = ({ dataId, shape, dtype }: tf.TensorInfo) => ({
    dataId: backend.write(cpu.readSync(dataId), shape, dtype),
    shape,
    dtype,
  });
  const carriedInputs = Array.isArray(inputs)
    ? inputs.map(there)
    : Object.fromEntries(Object.entries(inputs).map(([name, x]) => [name, there(x)]));
  try {
    const results = kernelFunc({
      inputs: carriedInputs as tf.NamedTensorInfoMap,
      attrs: attrs as tf.NamedAttrMap,
      backend: cpu,
    });
    made.push(...[results].flat());
    return Array.isArray(results) ? results.map(back) : back(results);
  } finally {
    for (const { dataId } of made) cpu.disposeData(dataId, true);
  }
}

/** Registers every kernel that the `cpu` backend has. */
export function register(backendName: string): void {
  for (const { kernelName } of tf.getKernelsForBackend("cpu")) {
    const kernel = Object.hasOwn(KERNELS, kernelName) ? KERNELS[kernelName] : undefined;
    tf.registerKernel({
      kernelName,
      backendName,
      kernelFunc(parameters) {
        const call = parameters as unknown as Call;
        return (kernel && compose(kernel, call)) ?? carried(kernelName, call);
      },
    });
  }
}
