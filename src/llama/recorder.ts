import type { StepRecorder } from '../slab/resident-slab.js';

/** Work that is recorded in one pass after the other, with submits where the host must know something before it goes on. */
export class Recorder implements StepRecorder {
  private readonly device: GPUDevice;
  private readonly label: string;
  private readonly tap: ((pass: GPUComputePassEncoder) => GPUComputePassEncoder) | null;
  private readonly onSubmit: () => void;
  private encoder: GPUCommandEncoder;
  private current: GPUComputePassEncoder;

  constructor(
    device: GPUDevice,
    label: string,
    onSubmit: () => void,
    tap: ((pass: GPUComputePassEncoder) => GPUComputePassEncoder) | null = null,
  ) {
    this.device = device;
    this.label = label;
    this.tap = tap;
    this.onSubmit = onSubmit;
    this.encoder = device.createCommandEncoder({ label });
    this.current = this.begin();
  }

  get pass(): GPUComputePassEncoder {
    return this.current;
  }

  /** Records between two passes. */
  between(record: (encoder: GPUCommandEncoder) => void): void {
    this.current.end();
    record(this.encoder);
    this.current = this.begin();
  }

  flush(last: (encoder: GPUCommandEncoder) => void = () => {}): void {
    const encoder = this.finish();
    last(encoder);
    this.device.queue.submit([encoder.finish()]);
    this.onSubmit();
    this.encoder = this.device.createCommandEncoder({ label: this.label });
    this.current = this.begin();
  }

  /** What was recorded since the last submit, for the caller to go on with and submit. Nothing can be recorded here then. */
  finish(): GPUCommandEncoder {
    this.current.end();
    return this.encoder;
  }

  private begin(): GPUComputePassEncoder {
    const pass = this.encoder.beginComputePass({ label: this.label });
    return this.tap ? this.tap(pass) : pass;
  }
}
