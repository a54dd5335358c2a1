// A prediction under way: how far it is, and a button that cancels it.

import { ask, follow, Refused } from './api.js';
import { complain, make, seconds } from './dom.js';
import { Result } from './result.js';

const SAID = {
  queued: 'Waiting', loading: 'The model is being loaded', running: 'Predicting', scoring: 'Scoring',
  done: 'Done', failed: 'Failed', cancelled: 'Cancelled',
};

function describe({ state, ahead, frames, of, seconds_left: left }) {
  if (state === 'queued' && ahead) return ahead === 1 ? 'One prediction is computed before yours.' : `${ahead} predictions are computed before yours.`;
  const time = Number.isFinite(left) && left !== null ? `, about ${seconds(Math.max(1, Math.ceil(left)))} left` : '';
  if (state === 'running') return `${frames} of ${of} frames predicted${time}.`;
  if (state === 'scoring') return `${of} of ${of} frames predicted; they are being compared with the truth${time}.`;
  return `${SAID[state] ?? state}.`;
}

function summarize({ clip, start, observed, horizon }) {
  const place = start === null ? 'its last' : start ? `from frame ${start + 1} on,` : 'its first';
  return `${clip.title}: ${place} ${observed} frames observed, ${horizon} predicted.`;
}

export class Job {
  // asked: what the server says that it computes. changed(): there is more to be shown. ended(job): it is done, failed
  // or cancelled. announce(sentence) is read aloud.
  constructor(id, asked, { changed, choose, ended, announce }) {
    const { model } = asked;
    Object.assign(this, { id, model, summary: summarize(asked), ended, announce, state: null, over: false });
    this.result = new Result(this, { redraw: changed, choose });
    this.bar = make('progress', { 'aria-label': `progress of ${model.title}` });
    this.text = make('span', { class: 'text' }, 'Asking …');
    this.button = make('button', { type: 'button', click: () => this.cancel() }, 'Cancel');
    this.message = make('div', { class: 'message', role: 'alert' });
    this.line = make('div', { class: 'job' }, make('strong', {}, model.title), this.bar, this.text, this.button);
    this.element = make('div', {}, this.line, this.message);
  }

  follow() {
    const careful = action => async event => {
      if (this.over) return;
      try { await action(event); } catch (error) { console.warn(error); }  // a picture of a chunk; the result has it, too
    };
    this.stop = follow(this.id, {
      observed: careful(event => this.result.observed(event)),
      frames: careful(event => (this.result.started ? this.result.frames(event) : null)),
      progress: state => this.progress(state),
      lost: error => this.fail(error),
    });
  }

  progress(state) {
    if (this.over) return;
    this.text.textContent = describe(state);
    if (state.state === 'running' && state.of) Object.assign(this.bar, { max: state.of, value: state.frames });
    else this.bar.removeAttribute('value');
    if (this.state !== state.state) this.announce(`${this.model.title}: ${describe(state)}`);
    this.state = state.state;
    if (state.state === 'done') this.collect();
    if (state.state === 'failed') this.fail(new Refused(state.error ?? 'The prediction failed.'));
    if (state.state === 'cancelled') this.finish('Cancelled.');
  }

  async collect() {
    try {
      const answer = await ask(`api/predictions/${this.id}/result`);
      await this.result.finish(answer);
      this.element.replaceChildren();
      this.finish();
    } catch (error) {
      const gone = error.gone || !(error instanceof Refused);  // a picture that did not arrive
      this.fail(gone ? new Refused(error.sentence ?? 'The result did not arrive.', { gone: true }) : error, () => this.collect());
    }
  }

  finish(sentence) {
    this.over = true;
    if (sentence) {
      this.line.hidden = true;
      this.message.replaceChildren(make('p', {}, `${this.model.title}: ${sentence}`));
    }
    this.ended(this);
  }

  fail(error, again = () => this.retry()) {
    this.line.hidden = true;
    this.over = true;
    this.error = error;
    complain(this.message, error, again);
    this.ended(this);
  }

  retry() {
    Object.assign(this, { over: false, error: null });
    this.line.hidden = false;
    this.follow();
  }

  async cancel() {
    this.button.disabled = true;
    try {
      await ask(`api/predictions/${this.id}`, 'DELETE');
    } catch (error) {
      this.button.disabled = false;
      complain(this.message, error);
    }
  }

  // No longer of interest: what the server computes for nobody is cancelled.
  drop() {
    this.stop?.();
    const running = !this.over;
    this.over = true;
    if (running) ask(`api/predictions/${this.id}`, 'DELETE').catch(() => {});
  }
}
