/** 128 + SIGPIPE, as a shell reports what a closed pipe ended. */
const CLOSED_PIPE = 141;

/** From now on the process ends, without a word, when nobody reads what it writes any more: `pairslab info | head -1`. */
export function endWithReader(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(CLOSED_PIPE);
      throw error;
    });
  }
}
