/** What is used of the optional peers, for a checkout without them: their own types are used where they are installed. */
declare module '@huggingface/transformers' {
  export interface PreTrainedTokenizer {
    (text: string, options?: object): { input_ids: number[] };
    apply_chat_template(messages: readonly object[], options?: object): unknown;
    decode(ids: number[], options?: object): string;
  }
  export const PreTrainedTokenizer: new (json: object, config: object) => PreTrainedTokenizer;
  export const AutoTokenizer: {
    from_pretrained(id: string, options?: object): Promise<PreTrainedTokenizer>;
  };
  export const env: { remoteHost: string };
}

declare module '@huggingface/hub' {
  export interface FileDownloadInfoOutput {
    size: number;
    etag: string;
    url: string;
  }
  interface FileOfRepo {
    repo: string;
    path: string;
    revision?: string;
    hubUrl?: string;
    accessToken?: string;
    fetch?: typeof fetch;
  }
  export function fileDownloadInfo(file: FileOfRepo): Promise<FileDownloadInfoOutput | null>;
  export function downloadFile(
    file: FileOfRepo & { downloadInfo?: FileDownloadInfoOutput },
  ): Promise<Blob | null>;
}
