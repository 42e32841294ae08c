/** What the two sides of the benches of files are asked, one line of JSON each, and what they answer. */

/** One thing to do with one layer. */
export interface Task {
  what: "make" | "extract" | "merge" | "resize";
  /** where the layer's files lie: `pair.safetensors`, base and tuned, and an adapter by algorithm */
  folder: string;
  /** `[kh, kw, I, O]` or `[I, O]` */
  kernel: number[];
  /** of the adapter that is merged or resized */
  algorithm?: string;
  /** how a rank is chosen, by the name that the peer has for it */
  mode?: string;
  param?: number;
  /** milliseconds to time it for */
  budget: number;
  /** time by the processor, of all threads, in place of the wall's clock */
  cpu?: boolean;
  /** tell the memory that it takes instead, in a process that has computed nothing else */
  memory?: boolean;
}

/** What came of it. */
export interface Answer {
  /** the least milliseconds */
  ms?: number;
  /** the high-water mark of the process's resident memory, less what it had before the layer was read */
  mib?: number;
  /** the rank found; 0 for the whole difference */
  rank?: number;
  /** ‖ΔW − ΔW′‖ / ‖ΔW‖ */
  missed?: number;
  /** the largest singular value of the pair's difference, of a pair that was made */
  largest?: number;
  /** why there is no number */
  error?: string;
}
