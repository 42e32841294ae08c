/** The engine `webgpu`, in software where that is here: reading at once, what goes wrong, what the package lacks. */
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as engine from "../../lib/engines/engine.ts";
import * as webgpu from "../../lib/engines/webgpu.ts";
import type { Backend } from "../../lib/engines/webgpu/backend.ts";
import { close, leakless } from "../support/close.ts";
import { under } from "../support/environment.ts";
import { values } from "../support/geometries.ts";

const software = { LOWRANK_WEBGPU_SOFTWARE: "1" };
const start = () => under(software, () => engine.use("webgpu"));
const backend = () => tf.backend() as unknown as Backend;
const tensor = (...shape: number[]) => tf.tensor(values(shape, shape.length), shape);

const here = suite("webgpu.available()");
here(
  "says in a sentence what is missing, unless a card is here or software was asked for",
  async () => {
    const reason = await under({ LOWRANK_WEBGPU_SOFTWARE: undefined }, webgpu.available);
    if (reason !== true) assert.match(reason, "gpu" in navigator ? /^no card is in reach/ : /Deno/);
  },
);

here("does not make software the first choice", async () => {
  const first = (engines: { name: string }[]) => engines.findIndex(({ name }) => name === "webgpu");
  if (await under(software, webgpu.preferred) === false) {
    assert.ok(first(await under(software, engine.list)) > 0);
  }
});
here.run();

const available = await under(software, webgpu.available);
if (available !== true) console.log(`webgpu is skipped: ${available}`);

const reads = suite("webgpu's dataSync()");
const test = available === true ? reads : reads.skip;
leakless(reads);
if (available === true) reads.before(async () => void (await start()));

test("has what was computed a line before", () => {
  const x = tensor(300, 200);
  assert.equal(tf.mul(x, 2).dataSync(), x.dataSync().map((value) => value * 2));
});

test("has all of a tensor that is longer than what is read in one go", () => {
  const n = 2 ** 22 + 3, y = tf.add(tf.range(0, n), 1).dataSync();
  assert.is(y.length, n);
  assert.ok(y.every((value, i) => value === i + 1));
});

test("has whole numbers and truths", () => {
  const x = tf.cast(tensor(20, 30, 4), "int32"), positive = tf.greater(tensor(20, 30, 4), 0);
  assert.equal(tf.add(x, tf.scalar(1, "int32")).dataSync(), x.dataSync().map((value) => value + 1));
  assert.equal(
    [...tf.logicalNot(positive).dataSync()],
    [...positive.dataSync()].map((one) => 1 - one),
  );
});

test("agrees with data()", async () => {
  const y = tf.sqrt(tf.square(tensor(40, 50)));
  assert.equal(await y.data(), y.dataSync());
});

test("can be called thousands of times", () => {
  let x = tf.zeros([2000]);
  for (let i = 1; i <= 2000; i++) {
    x = tf.tidy(() => tf.add(x, 1));
    if (x.dataSync()[i - 1] !== i) throw new Error(`read ${i} has other numbers`);
  }
});
reads.run();

/** What fails in the package on more than four axes, or on what is not float32. */
const many = [2, 3, 2, 3, 4], whole = (x: tf.Tensor) => tf.cast(tf.mul(x, 10), "int32");
const rows: [name: string, (x: tf.Tensor) => tf.Tensor][] = [
  ["pad", (x) => tf.pad(x, [[1, 0], [0, 2], [0, 0], [3, 1], [0, 1]], 0.5)],
  ["reverse", (x) => tf.reverse(x, [0, 3])],
  ["cumsum", (x) => tf.cumsum(x, 1, true, true)],
  ["cumprod", (x) => tf.cumprod(x, 3)],
  ["where", (x) => tf.where(tf.greater(x, 0), x, tf.zerosLike(x))],
  ["transpose of whole numbers", (x) => tf.transpose(whole(x))],
  ["transpose of whole numbers as float32", (x) => tf.transpose(tf.cast(whole(x), "float32"))],
  ["sum of whole numbers", (x) => tf.sum(whole(x), [0, 2])],
  ["any", (x) => tf.any(tf.greater(x, 0.9), [1, 3])],
  ["sum of a hundred", (x) => tf.addN(Array.from({ length: 100 }, (_, i) => tf.mul(x, i)))],
  ["row of a hundred", (x) => tf.concat(Array.from({ length: 100 }, (_, i) => tf.mul(x, i)), 1)],
];
const kernels = suite("webgpu:");
const kernel = available === true ? kernels : kernels.skip;
leakless(kernels);
for (const [name, compute] of rows) {
  kernel(`${name} of five axes is the cpu's`, async () => {
    await tf.setBackend("cpu");
    const expected = compute(tensor(...many));
    expected.dataSync();
    await start();
    tf.env().set("WEBGPU_CPU_FORWARD", false); // or the package gives small tensors to the processor
    close(compute(tensor(...many)), expected);
    tf.env().set("WEBGPU_CPU_FORWARD", true);
  });
}
kernels.run();

const trouble = suite("webgpu");
const failing = available === true ? trouble : trouble.skip;
if (available === true) trouble.before(async () => void (await start()));

failing("says what it computes on", () => assert.match(engine.device() ?? "", /./));

failing("refuses a tensor that no buffer holds", () => {
  const { maxBufferSize, maxStorageBufferBindingSize } = backend().device.limits;
  const n = Math.min(maxBufferSize, maxStorageBufferBindingSize) / 4 + 1;
  const tensors = tf.memory().numTensors;
  assert.throws(() => tf.tidy(() => tf.fill([n], 1)), /it must fit in one buffer: current limit/);
  assert.is(tf.memory().numTensors, tensors);
});

failing("gives up what it kept, then refuses, where the card has no memory left", () => {
  tf.dispose(tf.add(tensor(77), 1));
  tf.dispose(tf.sum(tensor(78)).dataSync());
  const { device, bufferManager: pool } = backend();
  const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE; // refused, as memory would be
  assert.throws(
    () => device.createBuffer({ size: 16, usage }),
    /memory left: current tensors take/,
  );
  assert.is(pool.getNumFreeBuffers(), 0);
  assert.equal([...tf.add(tf.tensor1d([1, 2]), 1).dataSync()], [2, 3]);
});

failing("throws at the next read what the card refused, and computes on", () => {
  const program = {
    outputShape: [4],
    shaderKey: "wrong",
    variableNames: ["x"],
    dispatchLayout: { x: [0] },
    dispatch: [1, 1, 1] as [number, number, number],
    workgroupSize: [64, 1, 1] as [number, number, number],
    getUserCode: () => "fn main(index: i32) { this is no shader }",
  };
  const x = tf.tensor1d([1, 2, 3, 4]), y = backend().runWebGPUProgram(program, [x], "float32");
  assert.throws(() => backend().readSync(y.dataId), /Cannot read a tensor.*must have computed it/);
  backend().disposeData(y.dataId);
  assert.equal([...tf.square(x).dataSync()], [1, 4, 9, 16]);
  x.dispose();
});

failing("says that the device is lost, and starts anew", async () => {
  const x = tf.square(tf.tensor1d([1, 2, 3]));
  backend().device.destroy();
  await backend().device.lost;
  assert.throws(() => x.dataSync(), /Cannot read a tensor.*engine\.use\("webgpu"\) starts anew/);
  assert.throws(() => tf.fill([12345], 1).dataSync(), /Cannot/);
  await start();
  assert.equal([...tf.square(tf.tensor1d([1, 2, 3])).dataSync()], [1, 4, 9]);
});
trouble.after(async () => void (await engine.use("cpu")));
trouble.run();
