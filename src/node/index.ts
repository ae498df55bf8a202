export { type AdapterEntry, chooseAdapter, listAdapters } from './adapters.js';
export { cacheFolderFiles } from './cache-files.js';
export { type DeviceOptions, type NodeDevice, requestDevice } from './device.js';
export { FolderSink } from './folder-sink.js';
export { nodeTransport } from './http-transport.js';
export { DiskFolder } from './model-folder.js';
export { quietWait } from './quiet-wait.js';
export { diskStore } from './tuning-store.js';
export { openTokenizer, type TextCodec, TextStream } from './text.js';
