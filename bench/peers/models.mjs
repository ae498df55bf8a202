/** ONNX graphs, built where they run: those of the onnxruntime peer. */
import onnxProto from 'onnx-proto';

const { onnx } = onnxProto;
const { FLOAT, INT32, UINT8 } = onnx.TensorProto.DataType;
/** The first opset with everything used here; and the contrib operators' only one. */
const OPSETS = [
  { domain: '', version: 17 },
  { domain: 'com.microsoft', version: 1 },
];

/** @typedef {{ name: string, data: Float32Array | Int32Array | Uint8Array, dims: number[] }} Constant */

/** @param {Constant} constant */
function tensor({ name, data, dims }) {
  const dataType = data instanceof Float32Array ? FLOAT : data instanceof Int32Array ? INT32 : UINT8;
  const rawData = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { name, dims, dataType, rawData };
}

/** A dimension is a number, or a name where it is free. @param {[string, (number | string)[], number?]} port */
function port([name, dims, elemType = FLOAT]) {
  const dim = dims.map((size) => (typeof size === 'string' ? { dimParam: size } : { dimValue: size }));
  return { name, type: { tensorType: { elemType, shape: { dim } } } };
}

/** An operator with whole-number attributes. */
export function node(opType, input, output, attributes = {}, domain = '') {
  const attribute = Object.entries(attributes).map(([name, i]) => ({
    name,
    i,
    type: onnx.AttributeProto.AttributeType.INT,
  }));
  return { name: output[0], opType, input, output, attribute, domain };
}

/** @returns {Uint8Array} */
export function model(input, output, constants, nodes) {
  const graph = {
    name: 'peer',
    input: input.map(port),
    output: output.map(port),
    initializer: constants.map(tensor),
    node: nodes,
  };
  return onnx.ModelProto.encode({
    irVersion: 8,
    producerName: 'pairslab bench',
    opsetImport: OPSETS,
    graph,
  }).finish();
}

/** packed = rows of `table` by ids. */
export function gatherModel(table, [rows, columns], count) {
  return model(
    [['ids', [count], INT32]],
    [['y', [count, columns]]],
    [{ name: 'table', data: table, dims: [rows, columns] }],
    [node('Gather', ['table', 'ids'], ['y'], { axis: 0 })],
  );
}

/** a = silu(g) · u. */
const activate = [
  node('Sigmoid', ['g'], ['s']),
  node('Mul', ['g', 's'], ['silu']),
  node('Mul', ['silu', 'u'], ['a']),
];

/**
 * y = down · (silu(gate · x) · (up · x)) over all rows or those of `ids`.
 * `weights` are [N, hidden] each where `rows`, else gate and up [hidden, N]; down is [N, hidden] always.
 * `one` has gate and up side by side in one matrix, which is then split.
 */
export function mlpModel(weights, { n, hidden, batch, count, rows, mask }) {
  const side = rows ? [n, hidden] : [hidden, n];
  const constants = [
    { name: 'gate', data: weights.gate, dims: side },
    { name: 'up', data: weights.up, dims: side },
    { name: 'down', data: weights.down, dims: [n, hidden] },
  ];
  const inputs = [['x', [batch, hidden]]];
  const nodes = [];
  const names = { gate: 'gate', up: 'up', down: 'down' };
  if (count) {
    inputs.push(['ids', [count], INT32]);
    for (const name of Object.keys(names)) {
      nodes.push(node('Gather', [name, 'ids'], [`${name}_rows`], { axis: rows || name === 'down' ? 0 : 1 }));
      names[name] = `${name}_rows`;
    }
  }
  const product = (name, out) =>
    rows ? node('Gemm', ['x', name], [out], { transB: 1 }) : node('MatMul', ['x', name], [out]);
  nodes.push(product(names.gate, 'g'), product(names.up, 'u'), ...activate);
  if (mask) {
    inputs.push(['mask', [1, n]]);
    nodes.push(node('Mul', ['a', 'mask'], ['masked']));
  }
  nodes.push(node('MatMul', [mask ? 'masked' : 'a', names.down], ['y']));
  return model(inputs, [['y', [batch, hidden]]], constants, nodes);
}

/** The same over all rows with weights of 4 bits; `accuracy` is how exactly x is taken: 1 as f32, 4 as int8. */
export function int4Model(weights, { n, hidden, batch, group, accuracy }) {
  const constants = [];
  const product = (input, name, output, [k, columns]) => {
    const { values, scales } = weights[name];
    const blocks = k / group;
    constants.push(
      { name: `${name}_values`, data: values, dims: [columns, blocks, group / 2] },
      { name: `${name}_scales`, data: scales, dims: [columns * blocks] },
    );
    const attributes = { K: k, N: columns, bits: 4, block_size: group, accuracy_level: accuracy };
    return node(
      'MatMulNBits',
      [input, `${name}_values`, `${name}_scales`],
      [output],
      attributes,
      'com.microsoft',
    );
  };
  const nodes = [
    product('x', 'gate', 'g', [hidden, n]),
    product('x', 'up', 'u', [hidden, n]),
    ...activate,
    product('a', 'down', 'y', [n, hidden]),
  ];
  return model([['x', [batch, hidden]]], [['y', [batch, hidden]]], constants, nodes);
}

/**
 * A matrix whose rows meet x in dot products, as MatMulNBits takes it: two values a byte, the earlier in the low half,
 * 8 added; and a scale for every group along a row. Exact for values such as those of work.ts.
 * @param {Float32Array} matrix
 * @param {number} group
 */
export function toInt4(matrix, group) {
  const values = new Uint8Array(matrix.length / 2);
  const scales = new Float32Array(matrix.length / group);
  for (let g = 0; g < scales.length; g++) {
    let most = 0;
    for (let i = g * group; i < (g + 1) * group; i++) most = Math.max(most, Math.abs(matrix[i]));
    scales[g] = most / 8;
    for (let i = g * group; i < (g + 1) * group; i++) {
      values[i >> 1] |= (Math.round(matrix[i] / scales[g]) + 8) << (4 * (i & 1));
    }
  }
  return { values, scales };
}
