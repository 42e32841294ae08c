/** IDX, the format of MNIST (LeCun, Cortes and Burges): a header of big-endian lengths, then the numbers. */
import { type Shape, show, size } from "../tensor/shape.ts";

const UNSIGNED_BYTE = 0x08;

/**
 * The bytes of an IDX file of unsigned bytes, with their shape; not copied.
 *
 * @throws {SyntaxError} when the header is not that of bytes, or the file is not as long as it says
 */
export function parse(file: Uint8Array): { shape: Shape; values: Uint8Array } {
  const refuse = (rule: string, current: string) => {
    throw new SyntaxError(`Cannot read IDX file as ${rule}: current ${current}`);
  };
  const axes = file[3];
  const header = 4 + 4 * axes;
  if (!(file.length >= header)) refuse("its header must be whole", `size is ${file.length} bytes`);
  if (file[0] !== 0 || file[1] !== 0 || file[2] !== UNSIGNED_BYTE) {
    refuse("it must hold unsigned bytes", `start is ${file.subarray(0, 4).join(" ")}`);
  }
  const view = new DataView(file.buffer, file.byteOffset, header);
  const shape = Array.from({ length: axes }, (_, axis) => view.getUint32(4 + 4 * axis));
  if (file.length !== header + size(shape)) {
    refuse(`${show(shape)} is ${header + size(shape)} bytes`, `size is ${file.length} bytes`);
  }
  return { shape, values: file.subarray(header) };
}
