/**
 * What does LoHa's own gradient save? Peak bytes of a step through the ΔW of several layers, whose backward
 * begins when all are built: our gradient, which makes W1 and W2 again, and TensorFlow.js's, which holds them.
 */
import { loha, tf } from "../mod.ts";

const LAYERS = 8, RANK = 8;
for (const shape of [[3, 3, 64, 64], [3, 3, 320, 320]]) {
  const layers = Array.from({ length: LAYERS }, (_, seed) => {
    const { down1, up1, down2, up2 } = loha.create(shape, RANK, { scalar: true, seed }).factors;
    return [down1, up1, down2, up2];
  });
  const matrix = (x: tf.Tensor) => tf.reshape(x, [-1, RANK]);
  const plain = ([d1, u1, d2, u2]: tf.Tensor[]) =>
    tf.mul(tf.matMul(matrix(d1), u1), tf.matMul(matrix(d2), u2));
  const ours = ([down1, up1, down2, up2]: tf.Tensor[]) => loha.delta({ down1, up1, down2, up2 });
  const peak = async (delta: (factors: tf.Tensor[]) => tf.Tensor) => {
    const { peakBytes } = await tf.profile(() => {
      const { value, grads } = tf.valueAndGrads((...all) =>
        tf.addN(layers.map((_, i) => tf.mean(delta(all.slice(4 * i, 4 * i + 4)))))
      )(layers.flat());
      tf.dispose([value, ...grads]);
    });
    return peakBytes - tf.memory().numBytes;
  };
  const [a, b] = [await peak(ours), await peak(plain)];
  const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  console.log(
    `${LAYERS} layers of ${shape.join("×")} at rank ${RANK}: ours ${mebibytes(a)}, ` +
      `plain differentiation ${mebibytes(b)}, ${(b / a).toFixed(2)} times as much`,
  );
}
