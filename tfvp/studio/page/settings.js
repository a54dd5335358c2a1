// What is observed and how much is predicted: sliders with a field each, which take only what model and clip allow.

import { byId, make } from './dom.js';

const MOST_OBSERVED = 300;
const LARGEST_SEED = 2 ** 31 - 1;
const FUTURES = 4;  // of a stochastic model, before the reader chooses

export class Settings {
  // changed(): called when the reader has moved something.
  constructor(limits, changed) {
    Object.assign(this, { limits, changed, touched: new Set(), fields: {} });
    this.field('start', 'Frames to skip at the beginning');
    this.field('observed', 'Observed frames');
    this.field('horizon', 'Predicted frames');
    this.field('futures', 'Futures');
    this.field('seed', 'Seed of the futures', true);
    const again = make('button', { type: 'button', click: () => {
      this.set('seed', Math.floor(Math.random() * 10000));
      this.move('seed');
    } }, 'Another seed');
    this.fields.seed.line.append(again);
  }

  field(name, label, plain = false) {
    const entry = make('input', { type: 'number', id: `${name}-number`, step: 1, inputmode: 'numeric',
      'aria-label': plain ? null : `${label}, as a number` });
    const slider = plain ? null : make('input', { type: 'range', id: name, step: 1 });
    const hint = make('span', { class: 'muted hint', id: `${name}-hint` });
    const line = make('div', { class: 'line' }, slider, entry);
    const whole = make('div', { class: 'field' }, make('label', { for: slider ? name : entry.id }, label), line, hint);
    (slider ?? entry).setAttribute('aria-describedby', hint.id);
    if (slider) slider.oninput = () => { entry.value = slider.value; this.move(name); };
    entry.onchange = () => { this.set(name, Number(entry.value)); this.move(name); };
    this.fields[name] = { whole, line, slider, entry, hint, min: 0, max: 0, step: 1 };
    byId('settings').append(whole);
  }

  move(name) {
    this.touched.add(name);
    this.changed();
  }

  get(name) { return Number(this.fields[name].entry.value); }

  // Writes the nearest value that the field takes.
  set(name, value) {
    const { slider, entry, min, max, step } = this.fields[name];
    const steps = Math.round(((Number.isFinite(value) ? value : min) - min) / step);
    const nearest = Math.max(min, Math.min(min + steps * step, max));
    entry.value = nearest;
    if (slider) slider.value = nearest;
  }

  range(name, min, max, step = 1) {
    const field = this.fields[name];
    max = Math.max(min, min + Math.floor((max - min) / step) * step);
    Object.assign(field, { min, max, step });
    for (const input of [field.slider, field.entry]) if (input) Object.assign(input, { min, max, step });
    if (field.slider) field.slider.disabled = min === max;
  }

  // Fits all fields to the models (one, or two to be compared) and the clip. `given` are values of a view.
  fit(models, clip, given = {}) {
    for (const name of Object.keys(this.fields)) if (given[name] !== undefined) this.touched.add(name);
    const wanted = (name, usual) => Number(given[name] ?? (this.touched.has(name) ? this.get(name) : usual));
    const [model] = models, frames = clip?.frames ?? 0;
    const step = models.map(one => one.context_step || 1).reduce(commonMultiple);
    const fewest = Math.ceil(Math.max(...models.map(one => one.context_min || 1)) / step) * step;
    const observed = wanted('observed', model.context), horizon = wanted('horizon', model.horizon);
    this.range('observed', fewest, Math.min(frames, MOST_OBSERVED), step);
    this.set('observed', observed);
    this.range('horizon', 1, this.limits.horizon ?? 300);
    this.set('horizon', horizon);
    const several = models.some(one => one.stochastic), futures = wanted('futures', FUTURES);
    this.range('futures', 1, several ? this.limits.futures ?? 16 : 1);
    this.set('futures', futures);
    this.fields.futures.whole.hidden = !several;
    this.fields.seed.whole.hidden = !several;
    const seed = wanted('seed', 0);
    this.range('seed', 0, LARGEST_SEED);
    this.set('seed', seed);
    const last = Math.max(0, frames - this.get('observed'));
    // Of a film of one's own the last frames whose future is known; other clips begin where something begins.
    const usual = clip?.id.startsWith('upload/') ? Math.max(0, last - this.get('horizon')) : 0;
    const start = wanted('start', usual);
    this.range('start', 0, last);
    this.set('start', start);
    this.hint(step, fewest, frames, models);
  }

  hint(step, fewest, frames, models) {
    const start = this.get('start'), observed = this.get('observed'), horizon = this.get('horizon');
    const known = Math.max(0, Math.min(frames - start - observed, horizon));
    this.fields.start.hint.textContent = known
      ? `Frames ${start + 1} to ${start + observed} of ${frames} are observed. ${known === horizon ? 'All' : `Only ${known}`} of the ${horizon} frames to predict are known, and are compared.`
      : frames ? 'The end of the clip is observed: what follows is not known.' : '';
    const short = frames && frames < fewest;
    this.fields.observed.hint.textContent = short
      ? `This clip has ${frames} frames; the model observes at least ${fewest}. Choose a longer clip.`
      : step > 1 ? `In steps of ${step}, as the model observes them.` : '';
    const single = models.filter(one => !one.stochastic).map(one => one.title);
    this.fields.futures.hint.textContent = models.length > 1 && single.length ? `${single.join(', ')}: always one.` : '';
  }

  // What a prediction is asked for; start is null at the end of the clip.
  values(frames) {
    const start = this.get('start'), observed = this.get('observed');
    const end = start + observed >= frames;
    return { start: end ? null : start, observed, horizon: this.get('horizon'), futures: this.get('futures'), seed: this.get('seed') };
  }
}

function commonMultiple(a, b) {
  let [x, y] = [a, b];
  while (y) [x, y] = [y, x % y];
  return a / x * b;
}
