/** The Python packages that hold an engine's library, each pinned by its checksum. */

/** One wheel of PyPI, and what of it is kept. */
export interface Wheel {
  /** the package and its version, as pip reads it */
  requirement: string;
  /** the file's name without `.whl` ends in the platform that it was built for */
  file: string;
  /** of the file, in hexadecimal */
  sha256: string;
  /** megabytes to download */
  size: number;
  /** where an entry of the archive goes, relative to the engine's folder; undefined where it is left out */
  keep(entry: string): string | undefined;
}

/** The wheels of every engine that can be installed; all of them for Linux on x86-64. */
export const WHEELS: Record<string, readonly Wheel[]> = {
  onednn: [{
    requirement: "onednn-cpu-gomp==2023.2.0",
    file: "onednn_cpu_gomp-2023.2.0-py2.py3-none-manylinux1_x86_64.whl",
    sha256: "2f22a54d6a890ed14bfa185d42a4be65d8b5b1df85dc1f0f3a9abe31620416fb",
    size: 39,
    keep: (entry) => /\/(libdnnl\.so\.3)$/.exec(entry)?.[1],
  }],
};
