/** Functions of every element by itself, of one tensor or two. */
import { all, type Kernel } from "./kernel.ts";

/** By the same name in TensorFlow.js and TensorFlow. */
const UNARY = [
  ..."Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Elu Erf Exp Expm1 Floor Log Log1p Neg"
    .split(
      " ",
    ),
  ..."Reciprocal Relu Relu6 Rsqrt Selu Sigmoid Sign Sin Sinh Softplus Sqrt Square Tan Tanh".split(
    " ",
  ),
  ..."IsFinite IsInf IsNan ZerosLike OnesLike".split(" "),
];

/** TensorFlow's names of what TensorFlow.js calls otherwise, or as here. */
const BINARY: Record<string, string> = {
  Add: "AddV2",
  Sub: "Sub",
  Multiply: "Mul",
  RealDiv: "RealDiv",
  Maximum: "Maximum",
  Minimum: "Minimum",
  Pow: "Pow",
  SquaredDifference: "SquaredDifference",
  FloorDiv: "FloorDiv",
  Mod: "FloorMod",
  Atan2: "Atan2",
  Equal: "Equal",
  NotEqual: "NotEqual",
  Greater: "Greater",
  GreaterEqual: "GreaterEqual",
  Less: "Less",
  LessEqual: "LessEqual",
};

/** Of two whole numbers these are what TensorFlow.js means by them. */
const WHOLE = new Set(
  "Add Sub Multiply Maximum Minimum Equal NotEqual Greater GreaterEqual Less LessEqual".split(" "),
);

const unary = (name: string): Kernel => ({ inputs: { x } }, run) =>
  x.dtype === "float32" ? run(name, [x]) : undefined;

const binary = (name: string, operation: string): Kernel => ({ inputs }, run) => {
  const fits = all(inputs, "float32") || (WHOLE.has(name) && all(inputs, "int32"));
  return fits ? run(operation, [inputs.a, inputs.b]) : undefined;
};

const logical = (name: string): Kernel => ({ inputs }, run) =>
  all(inputs, "bool") ? run(name, Object.values(inputs)) : undefined;

/** The kernels of this file. */
export const ELEMENTWISE: Record<string, Kernel> = {
  ...Object.fromEntries(UNARY.map((name) => [name, unary(name)])),
  ...Object.fromEntries(Object.entries(BINARY).map(([name, as]) => [name, binary(name, as)])),
  LogicalAnd: logical("LogicalAnd"),
  LogicalOr: logical("LogicalOr"),
  LogicalNot: logical("LogicalNot"),
  Round: ({ inputs: { x } }, run) => x.dtype === "float32" ? run("Rint", [x]) : undefined,
  Step: ({ inputs: { x }, attrs: { alpha = 0 } }, run) =>
    alpha === 0 && x.dtype === "float32"
      ? run("Cast", [run("Greater", [x, run("ZerosLike", [x])])], { DstT: { type: "float32" } })
      : undefined,
  LeakyRelu: ({ inputs: { x }, attrs }, run) =>
    x.dtype === "float32"
      ? run("LeakyRelu", [x], { alpha: { float: attrs.alpha as number } })
      : undefined,
  Prelu: ({ inputs, inputs: { x, alpha } }, run) => {
    if (!all(inputs, "float32")) return;
    const below = run("Minimum", [x, run("ZerosLike", [x])]);
    return run("AddV2", [run("Relu", [x]), run("Mul", [alpha, below])]);
  },
  EluGrad: ({ inputs: { dy, y } }, run) => run("EluGrad", [dy, y]),
  AddN: ({ inputs }, run) => {
    const tensors = Object.values(inputs);
    if (!all(inputs, "float32")) return;
    return run("AddN", tensors, { N: { int: tensors.length }, T: { type: "float32" } });
  },
  Select: ({ inputs: { condition, t, e } }, run) =>
    condition.dtype === "bool" && t.dtype === e.dtype && t.dtype !== "string"
      ? run("Select", [condition, t, e])
      : undefined,
};
