/** ONNX graphs of a small transformer block: whole, and cut before and after its MLP. */
import { model, node } from '../../../bench/peers/models.mjs';
import { transposed } from '../../../bench/peers/transpose.mjs';

const FLOAT = 1;

/** The weights that `block` asks `values(count)` for, each scaled to keep sums about 1. */
export function blockWeights({ hidden, rows, vocabulary }, values) {
  const matrix = (inputs, outputs) => values(inputs * outputs).map((v) => v / Math.sqrt(inputs));
  const near1 = () => values(hidden).map((v) => 1 + 0.1 * v);
  return {
    norm1: near1(),
    norm2: near1(),
    ...Object.fromEntries(['q', 'k', 'v', 'o'].map((name) => [name, matrix(hidden, hidden)])),
    // As pairslab takes them: [rows, hidden], and down [rows, hidden] as well.
    gate: values(rows * hidden).map((v) => v / Math.sqrt(hidden)),
    up: values(rows * hidden).map((v) => v / Math.sqrt(hidden)),
    down: values(rows * hidden).map((v) => (2 * v) / Math.sqrt(rows)),
    head: matrix(hidden, vocabulary),
  };
}

/** @returns graphs: attention (x to residual, normed), head (residual, y to logits), whole (x, mask to logits) */
export function blockGraphs({ hidden, rows, heads, vocabulary }, weights) {
  const square = (name) => ({ name, data: weights[name], dims: [hidden, hidden] });
  const vector = (name) => ({ name, data: weights[name], dims: [hidden] });
  const attention = {
    constants: [vector('norm1'), vector('norm2'), ...['q', 'k', 'v', 'o'].map(square)],
    nodes: [
      node('LayerNormalization', ['x', 'norm1'], ['n'], { axis: -1 }),
      ...['q', 'k', 'v'].map((name) => node('MatMul', ['n', name], [`n${name}`])),
      node('MultiHeadAttention', ['nq', 'nk', 'nv'], ['mixed'], { num_heads: heads }, 'com.microsoft'),
      node('MatMul', ['mixed', 'o'], ['attended']),
      node('Add', ['x', 'attended'], ['residual']),
      node('LayerNormalization', ['residual', 'norm2'], ['normed'], { axis: -1 }),
    ],
  };
  const mlp = {
    constants: ['gate', 'up', 'down'].map((name) => ({
      name,
      data: name === 'down' ? weights.down : transposed(weights[name], hidden),
      dims: name === 'down' ? [rows, hidden] : [hidden, rows],
    })),
    nodes: [
      node('MatMul', ['normed', 'gate'], ['g']),
      node('MatMul', ['normed', 'up'], ['u']),
      node('Sigmoid', ['g'], ['s']),
      node('Mul', ['g', 's'], ['silu']),
      node('Mul', ['silu', 'u'], ['a']),
      node('Mul', ['a', 'mask'], ['masked']),
      node('MatMul', ['masked', 'down'], ['y']),
    ],
  };
  const head = {
    constants: [{ name: 'head', data: weights.head, dims: [hidden, vocabulary] }],
    nodes: [node('Add', ['residual', 'y'], ['sum']), node('MatMul', ['sum', 'head'], ['logits'])],
  };
  const tokens = (name, columns = hidden) => [name, [1, 'T', columns], FLOAT];
  const graph = (inputs, outputs, ...parts) =>
    model(
      inputs,
      outputs,
      parts.flatMap(({ constants }) => constants),
      parts.flatMap(({ nodes }) => nodes),
    );
  const logits = [tokens('logits', vocabulary)];
  return {
    attention: graph([tokens('x')], [tokens('residual'), tokens('normed')], attention),
    head: graph([tokens('residual'), tokens('y')], logits, head),
    whole: graph([tokens('x'), ['mask', [1, 1, rows], FLOAT]], logits, attention, mlp, head),
  };
}

/** logits = x · weightᵀ, where weight is an input too: a slab's rows, however many they are. */
export function rowsGraph(columns) {
  return model(
    [
      ['x', [1, columns], FLOAT],
      ['weight', ['M', columns], FLOAT],
    ],
    [['y', [1, 'M'], FLOAT]],
    [],
    [node('Gemm', ['x', 'weight'], ['y'], { transB: 1 })],
  );
}
