// Requests to the server of this page. All paths are relative, so the page works below any prefix of a proxy.

const GONE = 'The studio does not answer. Is `tfvp studio` still running, and are you still connected?';
const ENDED = new Set(['done', 'failed', 'cancelled']);
const SILENCE = 4000;  // ms without an event after which the state is asked for

// What a reader is told; `gone` if the server does not answer, `status` of its answer otherwise.
export class Refused extends Error {
  constructor(sentence, { gone = false, status = 0 } = {}) {
    super(sentence);
    Object.assign(this, { sentence, gone, status });
  }
}

function understand(status, text) {
  if ([0, 502, 503, 504].includes(status)) throw new Refused(GONE, { gone: true, status });
  let answer = null;
  try { answer = text ? JSON.parse(text) : {}; } catch { /* a proxy's own page */ }
  if (status === 401) throw new Refused('You are signed out; reload the page to sign in again.', { status });
  if (status >= 400 && answer?.error) throw new Refused(answer.error, { status });
  if (status === 413) throw new Refused('The file is larger than this server takes.', { status });
  if (status >= 400 || answer === null) throw new Refused(`The studio could not do this (status ${status}).`, { status });
  return answer;
}

export async function ask(path, method = 'GET', body = undefined) {
  const options = { method, credentials: 'same-origin' };
  if (body !== undefined) Object.assign(options, { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } });
  let status = 0, text = '';
  try {
    // Not against the page's own address, which may hold a name and a password for the proxy: fetch refuses these.
    const answer = await fetch(new URL(path, location.origin + location.pathname), options);
    status = answer.status;
    text = await answer.text();
  } catch { status = 0; }
  return understand(status, text);
}

// Sends a file; progress(share) is called with 0 ... 1.
export function upload(path, file, name, model, progress) {
  const form = new FormData();
  form.append('model', model);
  form.append('file', file, name);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const answered = () => {
      try { resolve(understand(request.status, request.responseText)); } catch (error) { reject(error); }
    };
    request.upload.onprogress = event => progress(event.lengthComputable ? event.loaded / event.total : 0);
    request.onload = answered;
    request.onerror = answered;
    request.open('POST', path);
    request.send(form);
  });
}

// Follows a prediction until it has ended: `handlers` are observed, frames and progress, which get what the events
// of these names hold, and lost, which gets an error when the server does not answer. Returns a function that stops it.
export function follow(id, handlers) {
  const path = `api/predictions/${id}`;
  let source = null, stopped = false, heard = performance.now();
  const watch = setInterval(() => { if (performance.now() - heard > SILENCE) poll(); }, 1000);

  function stop() {
    stopped = true;
    clearInterval(watch);
    source?.close();
  }

  function take(state) {
    if (stopped) return;
    heard = performance.now();
    if (ENDED.has(state.state)) stop();
    handlers.progress(state);
  }

  async function poll() {
    heard = performance.now();
    try { take(await ask(path)); } catch (error) {
      if (stopped) return;
      stop();
      handlers.lost(error);
    }
  }

  function open() {
    if (stopped) return;
    source = new EventSource(`${path}/events`);
    for (const kind of ['observed', 'frames']) {
      source.addEventListener(kind, event => { heard = performance.now(); handlers[kind](JSON.parse(event.data)); });
    }
    source.addEventListener('progress', event => take(JSON.parse(event.data)));
    source.onerror = async () => {
      source.close();
      if (stopped) return;
      await poll();
      setTimeout(open, 1000);
    };
  }

  open();
  return stop;
}
