/** Finding TensorFlow, and what becomes of kernels and types that it is not given. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as tf from "@tensorflow/tfjs";
import * as engine from "../../lib/engines/engine.ts";
import * as tensorflow from "../../lib/engines/tensorflow.ts";
import { find, threads } from "../../lib/engines/tensorflow/library.ts";
import { leakless } from "../support/close.ts";
import { under } from "../support/environment.ts";

const available = await tensorflow.available();
if (available !== true) console.log(`tensorflow is skipped: ${available}`);

const reasons = suite("tensorflow's find()");

/** The sentence with which nothing is found under these variables alone. */
const refused = (variables: Record<string, string | undefined>) => {
  const none = { LOWRANK_LIBTENSORFLOW: undefined, VIRTUAL_ENV: undefined };
  return under(
    { ...none, XDG_CACHE_HOME: "/nowhere", ...variables },
    () => find().then(() => "nothing", (error) => error.message as string),
  );
};

reasons("says in one line where it looked, and what it was told to open", async () => {
  assert.match(await refused({}), /^.*LOWRANK_LIBTENSORFLOW.*venv.*cache$/);
  const path = "/no/such/libtensorflow_cc.so.2";
  assert.match(await refused({ LOWRANK_LIBTENSORFLOW: path }), /^.*\/no\/such\/.*$/);
});

for (
  const [where, variable, packages] of [
    ["the active venv", "VIRTUAL_ENV", ["lib", "python3.12", "site-packages"]],
    ["the user's cache folder", "XDG_CACHE_HOME", ["lowrank", "tensorflow"]],
  ] as const
) {
  reasons(`looks into ${where}, and says in one line that a file is no library`, async () => {
    const folder = mkdtempSync(join(tmpdir(), "lowrank-"));
    const place = join(folder, ...packages, "tensorflow");
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, "libtensorflow_cc.so.2"), "not a library\n");
    const sentence = await refused({ [variable]: folder });
    assert.ok(sentence.includes(join(place, "libtensorflow_cc.so.2")), sentence);
    assert.not.match(sentence, /\n/);
    rmSync(folder, { recursive: true });
  });
}

reasons("refuses a number of threads that is none", async () => {
  for (const LOWRANK_THREADS of ["many", "0", "128"]) {
    await under(
      { LOWRANK_THREADS },
      () => assert.throws(threads, /LOWRANK_THREADS.*from 1 to 127/),
    );
  }
});
reasons.run();

if (available === true) {
  const backend = suite("tensorflow's backend");
  backend.before(async () => void (await engine.use("tensorflow")));
  leakless(backend);

  backend("keeps every type of TensorFlow.js, without elements too", () => {
    assert.equal([...tf.tensor1d([1.5, -2]).dataSync()], [1.5, -2]);
    assert.equal([...tf.tensor1d([7, -8], "int32").dataSync()], [7, -8]);
    assert.equal([...tf.tensor1d([true, false], "bool").dataSync()], [1, 0]);
    assert.equal([...tf.tensor1d(["a", "bé"]).dataSync()], ["a", "bé"]);
    assert.equal(tf.zeros([0, 3]).shape, [0, 3]);
    const z = tf.complex([1, 2], [3, 4]);
    assert.equal([...tf.imag(z).dataSync()], [3, 4]);
    assert.equal([...tf.real(tf.ifft(tf.fft(z))).dataSync()], [1, 2]);
  });

  backend("computes what TensorFlow lacks in the cpu backend, and is itself again", () => {
    assert.equal([...tf.lowerBound([1, 3, 5], [2, 5]).dataSync()], [1, 2]);
    assert.equal([...tf.tensor1d([1, 2], "int32").neg().dataSync()], [-1, -2]);
    assert.equal([...tf.unique(tf.tensor1d([4, 4, 2])).indices.dataSync()], [0, 0, 1]);
    assert.is(tf.getBackend(), "tensorflow");
  });

  backend("says TensorFlow's own words in an error, and computes on", () => {
    const params = tf.tensor1d([1, 2, 3]);
    assert.throws(() => tf.gather(params, tf.tensor1d([5], "int32")), /indices\[0\] = 5/);
    assert.equal([...tf.add(params, 1).dataSync()], [2, 3, 4]);
  });

  backend("divides the gradient of avgPool by what lies in the input", () => {
    const x = tf.tensor4d([1, 2, 3], [1, 1, 3, 1]);
    const dx = tf.grad((x) => tf.avgPool(x as tf.Tensor4D, [1, 2], 2, "same"))(x);
    assert.equal([...dx.dataSync()], [0.5, 0.5, 1]);
  });

  backend("keeps weights in bfloat16 where told, and computes in float32 with them", () => {
    const x = tf.tensor1d([1, 1 + 1 / 128, 1 + 1 / 256, 1 + 3 / 256, -3, 1e-30, 0]);
    const rounded = [1, 1 + 1 / 128, 1, 1 + 2 / 128, -3];
    engine.halve(x);
    engine.halve(x);
    assert.equal([...x.dataSync()].slice(0, 5), rounded);
    assert.equal([...tf.add(x, 1 / 1024).dataSync()].slice(0, 5), rounded.map((v) => v + 1 / 1024));
    const [dx] = tf.grads((x) => tf.square(x))([x]);
    assert.equal([...dx.dataSync()].slice(0, 5), rounded.map((v) => 2 * v));
    const variable = tf.variable(tf.tensor1d([1 + 1 / 256]));
    engine.halve(variable);
    variable.assign(tf.tensor1d([1 + 1 / 256]));
    assert.equal([...variable.dataSync()], [1 + 1 / 256]);
    variable.dispose();
    assert.throws(() => engine.halve(tf.tensor1d([1], "int32")), TypeError);
  });

  backend("says what it computes on", () => {
    assert.match(engine.device() ?? "", /^TensorFlow \d.* on /);
  });
  backend.run();
}
