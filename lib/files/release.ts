/** Memory that goes at once, not when the collector comes by: large tensors would pile up until then. */

/** Takes the memory of numbers that nobody uses any more; a view of a part of something larger is left alone. */
export function release({ buffer, byteLength }: Uint8Array | Float32Array): void {
  if (buffer instanceof ArrayBuffer && byteLength === buffer.byteLength) buffer.transfer(0);
}
