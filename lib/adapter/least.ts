/** The smallest of 1 … most of which something holds that holds of all that are larger; most + 1 where of none. */
export function least(most: number, holds: (rank: number) => boolean): number {
  let low = 1, high = most + 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
