/** The Python packages that hold an engine's library, each pinned by its checksum. */

/** One wheel of PyPI, and what of it is kept. */
export interface Wheel {
  /** the package and its version, as pip reads it */
  requirement: string;
  /** the file's name without `.whl` ends in the platform that it was built for */
  file: string;
  /** of the file, in hexadecimal */
  sha256: string;
  /** where an entry of the archive goes, relative to the engine's folder; undefined where it is left out */
  keep(entry: string): string | undefined;
}

/** TensorFlow's two libraries, in the folder in which they look for CUDA's beside it. */
const tensorflow = (entry: string) =>
  /^tensorflow\/libtensorflow_(cc|framework)\.so\.2$/.exec(entry)?.[0];

/** NVIDIA's libraries, without headers and compilers. */
const cuda = (entry: string) => /^nvidia\/\w+\/lib\/[^/]+\.so[.\d]*$/.exec(entry)?.[0];

/**
 * The wheels of every engine that can be installed, and as ENGINE-cuda those of its build for NVIDIA's
 * cards; all of them for Linux on x86-64.
 */
export const WHEELS: Record<string, readonly Wheel[]> = {
  onednn: [
    {
      requirement: "onednn-cpu-gomp==2023.2.0",
      file: "onednn_cpu_gomp-2023.2.0-py2.py3-none-manylinux1_x86_64.whl",
      sha256: "2f22a54d6a890ed14bfa185d42a4be65d8b5b1df85dc1f0f3a9abe31620416fb",
      keep: (entry) => /\/(libdnnl\.so\.3)$/.exec(entry)?.[1],
    },
  ],
  tensorflow: [
    {
      requirement: "tensorflow-cpu==2.21.0",
      file: "tensorflow_cpu-2.21.0-cp311-cp311-manylinux_2_27_x86_64.whl",
      sha256: "2b847d217b02ee7731ed91431daf3250daa0196c3c94614d23be27232e6e5b6c",
      keep: tensorflow,
    },
  ],
  "tensorflow-cuda": [
    {
      requirement: "tensorflow==2.21.0",
      file: "tensorflow-2.21.0-cp311-cp311-manylinux_2_27_x86_64.whl",
      sha256: "9056fbc9ba04235810b71ae6cbd958a196e8804fb53bbcffbf3e23b56155f124",
      keep: tensorflow,
    },
    {
      requirement: "nvidia-cublas-cu12==12.9.3.13",
      file: "nvidia_cublas_cu12-12.9.3.13-py3-none-manylinux_2_27_x86_64.whl",
      sha256: "d7d51055f161b317c7105ddaae90e71eda059026074ffef93cf7cde2886bfe72",
      keep: cuda,
    },
    {
      requirement: "nvidia-cuda-cupti-cu12==12.8.90",
      file:
        "nvidia_cuda_cupti_cu12-12.8.90-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
      sha256: "ea0cb07ebda26bb9b29ba82cda34849e73c166c18162d3913575b0c9db9a6182",
      keep: cuda,
    },
    {
      requirement: "nvidia-cuda-nvrtc-cu12==12.9.86",
      file:
        "nvidia_cuda_nvrtc_cu12-12.9.86-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
      sha256: "210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4",
      keep: cuda,
    },
    {
      requirement: "nvidia-cuda-runtime-cu12==12.9.79",
      file:
        "nvidia_cuda_runtime_cu12-12.9.79-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
      sha256: "25bba2dfb01d48a9b59ca474a1ac43c6ebf7011f1b0b8cc44f54eb6ac48a96c3",
      keep: cuda,
    },
    {
      requirement: "nvidia-cudnn-cu12==9.28.0.42",
      file: "nvidia_cudnn_cu12-9.28.0.42-py3-none-manylinux_2_27_x86_64.whl",
      sha256: "9ff58b7f36dacd0a93e89f8f2957b52466889217963701daa15e577317cfa375",
      keep: cuda,
    },
    {
      requirement: "nvidia-cufft-cu12==11.4.1.4",
      file: "nvidia_cufft_cu12-11.4.1.4-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
      sha256: "c67884f2a7d276b4b80eb56a79322a95df592ae5e765cf1243693365ccab4e28",
      keep: cuda,
    },
    {
      requirement: "nvidia-curand-cu12==10.3.10.19",
      file: "nvidia_curand_cu12-10.3.10.19-py3-none-manylinux_2_27_x86_64.whl",
      sha256: "49b274db4780d421bd2ccd362e1415c13887c53c214f0d4b761752b8f9f6aa1e",
      keep: cuda,
    },
    {
      requirement: "nvidia-cusolver-cu12==11.7.5.82",
      file: "nvidia_cusolver_cu12-11.7.5.82-py3-none-manylinux_2_27_x86_64.whl",
      sha256: "15da72d1340d29b5b3cf3fd100e3cd53421dde36002eda6ed93811af63c40d88",
      keep: cuda,
    },
    {
      requirement: "nvidia-cusparse-cu12==12.5.10.65",
      file:
        "nvidia_cusparse_cu12-12.5.10.65-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
      sha256: "73060ce019ac064a057267c585bf1fd5a353734151f87472ff02b2c5c9984e78",
      keep: cuda,
    },
    {
      requirement: "nvidia-nccl-cu12==2.32.3",
      file: "nvidia_nccl_cu12-2.32.3-py3-none-manylinux_2_27_x86_64.whl",
      sha256: "bb94b2348e4861d5e8aa00b36c3d12d9bdf9c6369b82cbb723de0b582280a21c",
      keep: cuda,
    },
    {
      requirement: "nvidia-nvjitlink-cu12==12.9.86",
      file: "nvidia_nvjitlink_cu12-12.9.86-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
      sha256: "e3f1171dbdc83c5932a45f0f4c99180a70de9bd2718c1ab77d14104f6d7147f9",
      keep: cuda,
    },
  ],
};
