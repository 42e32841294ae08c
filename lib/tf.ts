/** TensorFlow.js, core and layers, as this library uses it: one namespace, one copy. */
export * from "@tensorflow/tfjs";
