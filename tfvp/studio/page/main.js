// Starts the page, and ties its parts together.

import { ask, Refused } from './api.js';
import { Clips } from './clips.js';
import { byId, complain, make, still } from './dom.js';
import { Job } from './job.js';
import { Models } from './models.js';
import { Settings } from './settings.js';
import { Stage } from './stage.js';
import { readView, writeView } from './view.js';

class Studio {
  constructor(about) {
    byId('about').append(` Version ${about.version}, TensorFlow ${about.tensorflow}.`);
    Object.assign(this, { limits: about.limits ?? {}, jobs: [], given: {}, calm: false });
    this.models = new Models(() => this.useModel());
    this.clips = new Clips(this.limits, () => this.fit());
    this.settings = new Settings(this.limits, () => this.fit());
    this.stage = new Stage();
    this.other = byId('compare');
    this.other.onchange = () => this.fit();
    byId('controls').onsubmit = event => { event.preventDefault(); this.predict(); };
    addEventListener('hashchange', () => this.restore());
  }

  async load() {
    const { models } = await ask('api/models');
    this.models.show(models);
    if (!this.models.usable().length) {
      throw new Refused('There is no model to predict with; train one, or start the studio with the --logdir of your runs.');
    }
    await this.restore();
  }

  // Takes what the address says.
  async restore() {
    this.given = readView();
    this.calm = true;  // the address stays as it is until all of it is read
    this.models.choose(this.given.model);
    this.offer(this.given.compare ?? '');
    this.announce();
    await this.clips.use(this.models.chosen, this.given.clip ?? this.models.chosen.clips?.[0]?.id);
    this.fit();
    this.calm = false;
    const shown = (this.given.shown ?? '').split(',').filter(Boolean);
    this.given = {};
    await this.reopen(shown);
    this.remember();
  }

  async useModel() {
    const before = this.clips.chosen?.id;
    this.offer();
    this.announce();
    await this.clips.use(this.models.chosen, before);
  }

  // The server loads the chosen model while the reader is still choosing a clip.
  announce() {
    if (this.models.chosen) ask('api/models', 'POST', { model: this.models.chosen.id }).catch(() => {});
  }

  // The models that the chosen one can be compared with; `wanted` is chosen if it is one of them.
  offer(wanted = this.other.value) {
    const chosen = this.models.chosen;
    const fitting = this.models.usable().filter(model => model.id !== chosen?.id && !model.observes_labels);
    const options = chosen?.observes_labels ? [] : fitting;
    this.other.replaceChildren(make('option', { value: '' }, 'no other model'),
      ...options.map(model => make('option', { value: model.id }, model.title)));
    this.other.value = options.some(model => model.id === wanted) ? wanted : '';
    this.other.closest('.field').hidden = !options.length;
  }

  get compared() { return [this.models.chosen, this.models.get(this.other.value)].filter(Boolean); }

  // Settings follow the models and the clip.
  fit() {
    const clip = this.clips.chosen;
    byId('predict').disabled = !clip;
    if (!this.models.chosen) return;
    this.settings.fit(this.compared, clip, this.given);
    this.remember();
  }

  remember() {
    if (this.calm) return;
    const clip = this.clips.chosen, values = this.settings.values(clip?.frames ?? 0);
    const several = this.compared.some(model => model.stochastic);
    writeView({
      model: this.models.chosen?.id, clip: clip?.id, start: this.settings.get('start'), observed: values.observed,
      horizon: values.horizon, futures: several ? values.futures : null, seed: several ? values.seed : null,
      compare: this.other.value, shown: this.jobs.map(job => job.id).join(','),
    });
  }

  async predict() {
    const button = byId('predict'), message = byId('predict-message'), clip = this.clips.chosen;
    if (!clip || button.disabled) return;
    message.replaceChildren();
    button.disabled = true;
    const models = this.compared, values = this.settings.values(clip.frames), started = [];
    try {
      for (const model of models) {
        const body = { ...values, model: model.id, clip: clip.id, clip_model: models[0].id };
        if (!model.stochastic) body.futures = 1;
        started.push(await ask('api/predictions', 'POST', body));
      }
    } catch (error) {
      complain(message, error, () => this.predict());
      for (const { id } of started) ask(`api/predictions/${id}`, 'DELETE').catch(() => {});
      return;
    } finally {
      button.disabled = false;
    }
    this.open(started);
    if (byId('results').getBoundingClientRect().top > innerHeight / 2) {
      byId('results').scrollIntoView({ behavior: still() ? 'auto' : 'smooth' });
    }
  }

  // Shows predictions, [{ id, asked }], instead of those that are shown now.
  open(started) {
    for (const job of this.jobs) job.drop();
    this.stage.clear();
    this.jobs = started.map(({ id, asked }) => new Job(id, asked, {
      changed: () => this.stage.refresh(),
      choose: () => this.stage.score(),
      ended: () => this.settle(),
      announce: sentence => { byId('announce').textContent = sentence; },
    }));
    byId('empty').hidden = this.jobs.length > 0;
    byId('jobs').replaceChildren(...this.jobs.map(job => job.element));
    this.stage.show(this.jobs.map(job => job.result));
    for (const job of this.jobs) job.follow();
    this.remember();
  }

  settle() {
    if (this.jobs.every(job => job.over)) this.stage.score();
  }

  // Predictions of the address, if the server still has them for this reader. What they were asked for may be something
  // else than what the controls say now.
  async reopen(ids) {
    const known = [], message = byId('predict-message');
    if (!ids.length || ids.join() === this.jobs.map(job => job.id).join()) return;
    for (const id of ids) {
      try {
        known.push(await ask(`api/predictions/${encodeURIComponent(id)}`));
      } catch (error) {
        if (!error.gone) continue;
        complain(message, error, () => this.reopen(ids));
        return;
      }
    }
    if (known.length < ids.length) {
      const lost = known.length ? 'One of the results of this address is' : 'The result of this address is';
      complain(message, new Refused(`${lost} not kept any more; press Predict to compute it again.`));
    }
    if (!known.length) return;
    this.open(known);
  }
}

async function begin() {
  const place = byId('model-message');
  try {
    await new Studio(await ask('api/about')).load();
  } catch (error) {
    byId('models').setAttribute('aria-busy', 'false');
    complain(place, error, () => location.reload());
  }
}

begin();
