/**
 * Reading the card's memory at once, which the whole library does where it needs numbers: WebGPU itself
 * only promises them.
 *
 * Deno's `mapAsync` waits for the card before it returns; its promise is settled later, but the numbers are
 * there. They may be taken before from a buffer that was mapped once already, so one such buffer is kept. A
 * runtime that does not wait refuses to hand them out, and {@link reader} says so.
 */

/** Bytes read in one go. */
const CHUNK = 2 ** 24;
/** Before them, which read this is: where the card refused the work, an older number is there. */
const STAMP = 8;

/** Commands that are recorded now, and sent by `submit`. */
export interface Queue {
  record(): GPUCommandEncoder;
  submit(): void;
}

/** Copies the first bytes of a buffer, as the last of the commands recorded. */
export type Reader = (from: GPUBuffer, bytes: number, queue: Queue) => ArrayBuffer;

/**
 * A reader for a device, tried out.
 *
 * @throws {Error} where the runtime cannot read at once, or the card does not return what was written
 */
export async function reader(device: GPUDevice): Promise<Reader> {
  const { COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
  const stage = device.createBuffer({ size: STAMP + CHUNK, usage: COPY_DST | MAP_READ });
  const stamp = device.createBuffer({ size: STAMP, usage: COPY_SRC | COPY_DST });
  await stage.mapAsync(GPUMapMode.READ);
  stage.unmap();
  let reads = 0;

  const chunk = (from: GPUBuffer, offset: number, target: Uint8Array, queue: Queue) => {
    device.queue.writeBuffer(stamp, 0, new Uint32Array([++reads, 0]));
    const commands = queue.record();
    commands.copyBufferToBuffer(stamp, 0, stage, 0, STAMP);
    commands.copyBufferToBuffer(from, offset, stage, STAMP, target.length);
    queue.submit();
    const length = STAMP + target.length;
    stage.mapAsync(GPUMapMode.READ, 0, length).catch(() => {}); // what went wrong, the next line throws
    const bytes = stage.getMappedRange(0, length);
    const number = new Uint32Array(bytes)[0];
    target.set(new Uint8Array(bytes, STAMP));
    stage.unmap();
    if (number !== reads) throw new Error("the card refused the commands");
  };
  const read: Reader = (from, bytes, queue) => {
    const result = new Uint8Array(bytes);
    for (let at = 0; at < bytes; at += CHUNK) {
      chunk(from, at, result.subarray(at, Math.min(bytes, at + CHUNK)), queue);
    }
    return result.buffer;
  };
  tryOut(device, read);
  return read;
}

function tryOut(device: GPUDevice, read: Reader): void {
  const written = Uint32Array.of(7, 11), { COPY_SRC, COPY_DST } = GPUBufferUsage;
  const buffer = device.createBuffer({ size: written.byteLength, usage: COPY_SRC | COPY_DST });
  device.queue.writeBuffer(buffer, 0, written);
  const commands = device.createCommandEncoder();
  const queue = { record: () => commands, submit: () => device.queue.submit([commands.finish()]) };
  const found = new Uint32Array(read(buffer, written.byteLength, queue));
  buffer.destroy();
  if (found.join() !== written.join()) throw new Error("the card does not return what is written");
}
