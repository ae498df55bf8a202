import { BufferGroup, Usage } from '../gpu/buffers.js';
import { finished, Readback } from '../gpu/readback.js';
import { encodeRecorded, type RecordedDispatch } from './recording.js';
import { statsOf } from './stats.js';
import { type DeviceTimer, deviceTimer } from './timer.js';

/** Milliseconds of each dispatch, in order, and of a pass with none: a part of theirs, unless it was taken off. */
export interface Parts {
  readonly dispatches: number[];
  readonly empty: number;
}

/** Times a recorded step by running it again; a step that begins at its inputs does the same each time. */
export interface Replay {
  readonly kind: DeviceTimer['kind'];
  /** Each dispatch by itself. */
  each(): Promise<Parts>;
  /** Milliseconds of all of them in one pass, as they really run. */
  whole(): Promise<number>;
  destroy(): void;
}

export function replayOf(device: GPUDevice, recorded: readonly RecordedDispatch[]): Replay {
  return device.features.has('timestamp-query')
    ? new TimestampReplay(device, recorded)
    : new WallReplay(device, recorded);
}

abstract class BaseReplay implements Replay {
  protected readonly device: GPUDevice;
  protected readonly recorded: readonly RecordedDispatch[];
  private readonly timer: DeviceTimer;

  constructor(device: GPUDevice, recorded: readonly RecordedDispatch[]) {
    this.device = device;
    this.recorded = recorded;
    this.timer = deviceTimer(device);
  }

  get kind(): DeviceTimer['kind'] {
    return this.timer.kind;
  }

  abstract each(): Promise<Parts>;

  whole(): Promise<number> {
    return this.timer.time((encoder) => {
      const pass = encoder.beginComputePass({ label: 'pairslab replay' });
      for (const dispatch of this.recorded) encodeRecorded(pass, dispatch);
      pass.end();
    });
  }

  destroy(): void {
    this.timer.destroy();
  }
}

/** A query set has at most 4096 queries, two a pass, of which one is empty: longer steps take several submits. */
const DISPATCHES_PER_SUBMIT = 2047;

/**
 * A pass for each dispatch, with a timestamp at either end; one submit. The empty pass is not taken off: on lavapipe it
 * takes 6 to 48 µs, on SwiftShader less than one.
 */
class TimestampReplay extends BaseReplay {
  private readonly memory: BufferGroup;
  private readonly queries: GPUQuerySet;
  private readonly resolved: GPUBuffer;
  private readonly readback: Readback;

  constructor(device: GPUDevice, recorded: readonly RecordedDispatch[]) {
    super(device, recorded);
    const count = 2 * (1 + Math.min(recorded.length, DISPATCHES_PER_SUBMIT));
    this.memory = new BufferGroup(device);
    this.queries = device.createQuerySet({ type: 'timestamp', count, label: 'pairslab profile' });
    this.resolved = this.memory.create('profile times', count * 8, Usage.QUERY_RESOLVE | Usage.COPY_SRC);
    this.readback = new Readback(device, count * 8);
  }

  async each(): Promise<Parts> {
    const dispatches: number[] = [];
    let empty = 0;
    for (let first = 0; first < this.recorded.length; first += DISPATCHES_PER_SUBMIT) {
      const some = this.recorded.slice(first, first + DISPATCHES_PER_SUBMIT);
      const times = await this.passes([...some, undefined]);
      empty = times.pop() as number;
      dispatches.push(...times);
    }
    return { dispatches, empty };
  }

  private async passes(dispatches: readonly (RecordedDispatch | undefined)[]): Promise<number[]> {
    const { queries: querySet, resolved } = this;
    const encoder = this.device.createCommandEncoder({ label: 'pairslab profile' });
    for (const [i, dispatch] of dispatches.entries()) {
      const timestampWrites = {
        querySet,
        beginningOfPassWriteIndex: 2 * i,
        endOfPassWriteIndex: 2 * i + 1,
      };
      const pass = encoder.beginComputePass({ label: 'pairslab profile', timestampWrites });
      if (dispatch) encodeRecorded(pass, dispatch);
      pass.end();
    }
    const count = 2 * dispatches.length;
    encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
    this.readback.encodeCopy(encoder, resolved, 0, 0, count * 8);
    this.device.queue.submit([encoder.finish()]);
    const at = new BigUint64Array(await this.readback.read(count * 8));
    return dispatches.map((_, i) => Number(at[2 * i + 1] - at[2 * i]) / 1e6);
  }

  override destroy(): void {
    super.destroy();
    this.queries.destroy();
    this.readback.destroy();
    this.memory.destroy();
  }
}

/** Empty submits that a replay is held against. */
const EMPTIES = 5;

/** Each dispatch is submitted by itself and waited for, by the clock on the wall, less what an empty submit takes. */
class WallReplay extends BaseReplay {
  async each(): Promise<Parts> {
    const empties: number[] = [];
    for (let i = 0; i < EMPTIES; i++) empties.push(await this.submit());
    const empty = statsOf(empties).median;
    const dispatches: number[] = [];
    for (const dispatch of this.recorded) dispatches.push(Math.max(0, (await this.submit(dispatch)) - empty));
    return { dispatches, empty };
  }

  private async submit(dispatch?: RecordedDispatch): Promise<number> {
    const encoder = this.device.createCommandEncoder({ label: 'pairslab profile' });
    const pass = encoder.beginComputePass({ label: 'pairslab profile' });
    if (dispatch) encodeRecorded(pass, dispatch);
    pass.end();
    const commands = encoder.finish();
    const started = performance.now();
    this.device.queue.submit([commands]);
    await finished(this.device);
    return performance.now() - started;
  }
}
