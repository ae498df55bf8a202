/** One way in which bytes went between host and device. */
export interface HostCopy {
  how: 'writeBuffer' | 'mappedAtCreation' | 'mapAsync';
  bytes: number;
}

/** Notes every copy between host and device that anyone in this page asks for while `work` runs. */
export async function hostCopies(work: () => Promise<void>): Promise<HostCopy[]> {
  const copies: HostCopy[] = [];
  const { writeBuffer } = GPUQueue.prototype;
  const { createBuffer } = GPUDevice.prototype;
  const { mapAsync } = GPUBuffer.prototype;
  GPUQueue.prototype.writeBuffer = function (this: GPUQueue, ...args: Parameters<typeof writeBuffer>) {
    const [, , data, offset = 0, size] = args;
    const unit = 'BYTES_PER_ELEMENT' in data ? (data.BYTES_PER_ELEMENT as number) : 1;
    copies.push({ how: 'writeBuffer', bytes: (size ?? data.byteLength / unit - offset) * unit });
    return writeBuffer.apply(this, args);
  };
  GPUDevice.prototype.createBuffer = function (this: GPUDevice, descriptor) {
    if (descriptor.mappedAtCreation) copies.push({ how: 'mappedAtCreation', bytes: descriptor.size });
    return createBuffer.call(this, descriptor);
  };
  GPUBuffer.prototype.mapAsync = function (this: GPUBuffer, mode, offset = 0, size) {
    copies.push({ how: 'mapAsync', bytes: size ?? this.size - offset });
    return mapAsync.call(this, mode, offset, size);
  };
  try {
    await work();
  } finally {
    GPUQueue.prototype.writeBuffer = writeBuffer;
    GPUDevice.prototype.createBuffer = createBuffer;
    GPUBuffer.prototype.mapAsync = mapAsync;
  }
  return copies;
}
