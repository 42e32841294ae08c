/** What the two sides are asked, one line of JSON each, and what they answer. */
import type { Place, Way } from "../support/cases.ts";

/** One way to make one step. */
export interface Task {
  /** the layer; without one it is a whole step of the demo's network, Adam included */
  place?: Place;
  way: Way;
  rank: number;
  /** milliseconds to time it for */
  budget: number;
  /** tell the memory that it takes instead, in a process that has computed nothing else */
  memory?: boolean;
  /** LyCORIS's `bypass_mode` */
  bypass?: boolean;
  /** torch's channels_last, in place of NCHW */
  channelsLast?: boolean;
}

/** What came of it. */
export interface Answer {
  /** the least milliseconds of a step */
  ms?: number;
  /** the high-water mark of the process's resident memory, less what it had before the layer was made */
  mib?: number;
  /** what it had then */
  resident?: number;
  /** why there is no number */
  error?: string;
}
