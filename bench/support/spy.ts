/** The kernels that TensorFlow.js runs, timed from outside. */
import * as tf from "@tensorflow/tfjs";

/** One run of a kernel. */
export interface Call {
  name: string;
  /** of its inputs and first output */
  shapes: string;
  ms: number;
}

/** What has been seen. */
export interface Spy {
  /** the calls since the last time this was asked */
  calls(): Call[];
  /** puts the kernels back */
  stop(): void;
}

/**
 * Wraps every kernel of the backend at hand, until `stop`.
 *
 * For backends that have computed when a kernel returns: those on the CPU. A kernel that runs others by their
 * functions, as composed ones do, counts once, for all of it.
 */
export function spy(): Spy {
  const seen: Call[] = [], backendName = tf.getBackend();
  const kernels = tf.getKernelsForBackend(backendName);
  let depth = 0;
  const register = (config: tf.KernelConfig) => {
    tf.unregisterKernel(config.kernelName, backendName);
    tf.registerKernel(config);
  };
  for (const config of kernels) {
    const { kernelName: name, kernelFunc } = config;
    register({
      ...config,
      kernelFunc(parameters) {
        const start = performance.now();
        depth++;
        try {
          const result = kernelFunc(parameters);
          const first = Array.isArray(result) ? result[0] : result;
          const inputs = Object.values(parameters.inputs) as (tf.TensorInfo | undefined)[];
          const shapes = `${inputs.filter((x) => x).map((x) => show(x!.shape)).join(" ")} → ${
            show(first.shape)
          }`;
          if (depth === 1) seen.push({ name, shapes, ms: performance.now() - start });
          return result;
        } finally {
          depth--;
        }
      },
    });
  }
  return { calls: () => seen.splice(0), stop: () => kernels.forEach(register) };
}

const show = (shape: readonly number[]) => `[${shape.join(",")}]`;
