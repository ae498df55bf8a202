/*
 * Symptom: a range request by Node's own fetch costs most of its time on the main thread. Measured on two cores against
 * nginx on the same machine, six at a time: 1.5 kB 0.63 ms a request by fetch and 0.28 by node:http, 64 KiB 0.55 and
 * 0.30, 256 KiB 1.00 and 0.55. Delete when fetch comes near that.
 */
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import type { HttpAnswer, HttpTransport } from '../io/http-source.js';

const MOST_REDIRECTS = 5;
const keepAlive = { keepAlive: true };
const agents = { 'http:': new http.Agent(keepAlive), 'https:': new https.Agent(keepAlive) };

/** Requests by node:http and node:https, over connections that are kept. For `HttpOptions.transport`. */
export const nodeTransport: HttpTransport = async (url, headers, signal) => {
  let at = new URL(url);
  let sent = headers;
  for (let redirects = 0; ; redirects++) {
    const message = await ask(at, sent, signal);
    const { statusCode = 0, headers: answered } = message;
    if (!(statusCode >= 301 && statusCode <= 308 && answered.location) || redirects === MOST_REDIRECTS)
      return answerOf(message);
    message.resume();
    const next = new URL(answered.location, at);
    if (next.origin !== at.origin) sent = withoutSecrets(sent);
    at = next;
  }
};

/** What is meant for one server is not sent to another. */
function withoutSecrets(headers: Readonly<Record<string, string>>): Record<string, string> {
  const secret = ['authorization', 'cookie', 'proxy-authorization'];
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !secret.includes(name.toLowerCase())));
}

function ask(
  url: URL,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const secure = url.protocol === 'https:';
    const agent = agents[secure ? 'https:' : 'http:'];
    const request = (secure ? https : http).get(url, { agent, headers }, resolve).on('error', reject);
    // As an option the signal would go to the connection too, which outlives the request.
    const onAbort = () => request.destroy();
    signal.addEventListener('abort', onAbort, { once: true });
    request.once('close', () => signal.removeEventListener('abort', onAbort));
  });
}

function answerOf(message: IncomingMessage): HttpAnswer {
  const { statusCode = 0, statusMessage = '', headers } = message;
  const chunks = message[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  // When it is ended between two reads nobody else listens; the next read throws all the same.
  message.on('error', () => {});
  return {
    status: statusCode,
    statusText: statusMessage,
    header: (name) => {
      const value = headers[name];
      return typeof value === 'string' ? value : null;
    },
    hidesHeaders: false,
    read: async () => {
      const { done, value } = await chunks.next();
      return done ? null : value;
    },
  };
}
