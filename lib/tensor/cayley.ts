/** The Cayley transform: a rotation from every skew-symmetric matrix, and back from what it turned. */
import * as tf from "@tensorflow/tfjs";

/**
 * `R = (I + Q)(I − Q)⁻¹`, a rotation for each skew-symmetric block (Qᵀ = −Q), differentiable.
 *
 * As R = 2M − I with M = (I − Q)⁻¹, one inverse is all there is to it. It is taken in float64 outside
 * TensorFlow.js: elimination in float32 is off by up to ‖Q‖² units in the last place, and its b steps of eight small
 * operations take longer on every engine here.
 *
 * @param Q `[..., b, b]`
 * @returns R, `[..., b, b]`, exactly I where Q is zero
 */
export function cayley(Q: tf.Tensor): tf.Tensor {
  const rotate = tf.customGrad((...args) => {
    const [Q, save] = args as [tf.Tensor, tf.GradSaveFunc];
    const value = tf.tensor(transformed(Q.dataSync(), Q.shape[Q.rank - 1]), Q.shape);
    save([value]);
    // dR = 2 M dQ M, so that gQ = 2 Mᵀ G Mᵀ, and 2M = I + R
    const gradFunc = (G: tf.Tensor, [R]: tf.Tensor[]) => {
      const twice = tf.add(R, tf.eye(R.shape[R.rank - 1]));
      return tf.mul(tf.matMul(tf.matMul(twice, G, true), twice, false, true), 0.5);
    };
    return { value, gradFunc };
  });
  return tf.tidy(() => rotate(Q));
}

/** `2 (I − Q)⁻¹ − I` of every block of b×b numbers. */
function transformed(Q: ArrayLike<number>, b: number): Float32Array {
  const result = Float32Array.from(Q), block = new Float64Array(b * b);
  for (let start = 0; start < result.length; start += b * b) {
    for (let i = 0; i < b * b; i++) block[i] = (i % (b + 1) === 0 ? 1 : 0) - Q[start + i];
    invert(block, b);
    for (let i = 0; i < b * b; i++) {
      result[start + i] = 2 * block[i] - (i % (b + 1) === 0 ? 1 : 0);
    }
  }
  return result;
}

/**
 * A → A⁻¹ in place by Gauss–Jordan steps.
 *
 * No row is exchanged: the symmetric part of I − Q is I, so is at least I in every Schur complement, and no pivot
 * is below 1.
 */
function invert(A: Float64Array, b: number): void {
  for (let pivot = 0; pivot < A.length; pivot += b + 1) {
    const column = pivot % b, row = pivot - column, inverse = 1 / A[pivot];
    A[pivot] = 1;
    for (let j = row; j < row + b; j++) A[j] *= inverse;
    for (let i = 0; i < A.length; i += b) {
      const factor = A[i + column];
      if (i === row || factor === 0) continue;
      A[i + column] = 0;
      for (let j = 0; j < b; j++) A[i + j] -= factor * A[row + j];
    }
  }
}

/** The last two axes exchanged. */
export function transposed(A: tf.Tensor): tf.Tensor {
  const axes = A.shape.map((_, axis) => axis);
  return tf.transpose(A, [...axes.slice(0, -2), A.rank - 1, A.rank - 2]);
}

/** `B − Bᵀ` of every block: the skew-symmetric matrix that b² free numbers stand for. */
export function skew(B: tf.Tensor): tf.Tensor {
  return tf.tidy(() => tf.sub(B, transposed(B)));
}

/** `R_s = s (R − I) + I`: a rotation R used at strength s. It is a rotation itself at s = 0 and s = 1 only. */
export function between(R: tf.Tensor, s: number): tf.Tensor {
  if (s === 1) return tf.clone(R);
  return tf.tidy(() => tf.add(tf.mul(R, s), tf.mul(tf.eye(R.shape[R.rank - 1]), 1 - s)));
}

/** `R_s⁻¹` of the R that Q stands for: R_s = (I + tQ)(I − Q)⁻¹ with t = 2s − 1, so (I − Q)(I + tQ)⁻¹, at every s. */
export function inverseBetween(Q: tf.Tensor, s: number): tf.Tensor {
  return tf.tidy(() => {
    const I = tf.eye(Q.shape[Q.rank - 1]), halfTurned = cayley(tf.mul(Q, 1 - 2 * s));
    const left = tf.reshape(tf.sub(I, Q), [-1, ...I.shape]);
    const inverse = tf.reshape(tf.mul(tf.add(halfTurned, I), 0.5), [-1, ...I.shape]);
    return tf.reshape(tf.matMul(left, inverse), Q.shape);
  });
}
