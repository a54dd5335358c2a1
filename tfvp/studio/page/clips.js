// The gallery of clips: those that come with the model, clips of its data set by seed, and the reader's own.

import { ask, Refused, upload } from './api.js';
import { byId, complain, make, picture } from './dom.js';
import { Recorder } from './webcam.js';

export class Clips {
  // changed(): called when another clip is chosen, or the one chosen is read for another model.
  constructor(limits, changed) {
    Object.assign(this, { limits, changed, model: null, drawn: [], own: [], root: byId('clips'), turn: 0 });
    this.uploads = new Set();  // ids of what the server keeps of this reader, whether or not the model takes videos
    this.root.onchange = () => this.measure();
    byId('draw').onclick = () => this.draw(Number(byId('draw-seed').value));
    byId('upload').onchange = event => { this.take(event.target.files[0]); event.target.value = ''; };
    new Recorder(limits, file => this.take(file), error => this.complain(error));
    const section = byId('clip-section'), dragged = event => [...event.dataTransfer?.types ?? []].includes('Files');
    const mark = value => section.classList.toggle('dropping', value);
    document.addEventListener('dragover', event => { if (dragged(event)) { event.preventDefault(); mark(true); } });
    document.addEventListener('dragleave', event => { if (!event.relatedTarget) mark(false); });
    document.addEventListener('drop', event => {
      if (!dragged(event)) return;
      event.preventDefault();
      mark(false);
      this.take(event.dataTransfer.files[0]);
    });
  }

  get all() { return [...this.model?.clips ?? [], ...this.drawn, ...this.own]; }

  get chosen() { return this.all.find(clip => clip.id === this.root.querySelector('input:checked')?.value); }

  // Shows the clips of a model and chooses `wanted`, or else the first. The reader's own clips, and the seed of the one
  // that was drawn, are kept, but read by the rule of this model.
  async use(model, wanted) {
    const turn = ++this.turn;
    this.complain(null);
    Object.assign(this, { model, drawn: [] });
    byId('draw-line').hidden = !model.draws;
    byId('own').hidden = model.observes_labels;
    this.own = [];
    if (String(wanted).startsWith('upload/')) this.uploads.add(wanted);
    await this.show(wanted);
    if (turn !== this.turn) return;
    if (model.observes_labels) return;
    const ids = [...this.uploads];
    for (const id of ids) {
      try {
        const clip = await ask(`api/clips?${new URLSearchParams({ model: model.id, id })}`);
        if (turn !== this.turn) return;
        this.own.push(clip);
      } catch (error) {
        if (error.status === 404) this.uploads.delete(id);
        if (turn !== this.turn) return;
        if (error.status !== 404) this.complain(error);
        else if (id === wanted) this.complain(new Refused('The clip of this view was deleted; upload it again.'));
      }
    }
    if (ids.length) await this.show(wanted);
    if (turn === this.turn && /^draw\/\d+$/.test(wanted) && model.draws) await this.draw(Number(wanted.slice(5)));
  }

  show(wanted) {
    this.root.replaceChildren(...this.all.map(clip => make('label', { class: 'clip-card' },
      make('input', { type: 'radio', name: 'clip', value: clip.id }),
      picture(clip.picture, clip.title),
      make('span', { class: 'title' }, clip.title),
      make('span', { class: 'muted' }, clip.frames ? `${clip.frames} frames` : ''))));
    if (!this.all.length) {
      const way = this.model.observes_labels ? 'its data set, label maps included, has to be where its configuration says.' : 'upload one.';
      this.root.replaceChildren(make('p', { class: 'muted' }, `No clip comes with this model; ${way}`));
    }
    const inputs = [...this.root.querySelectorAll('input')];
    const input = inputs.find(radio => radio.value === wanted) ?? inputs[0];
    if (input) input.checked = true;
    return this.measure();
  }

  // How long the chosen clip is, as this model takes it, is asked for when it is needed.
  async measure() {
    const clip = this.chosen;
    if (clip && !clip.frames) {
      try {
        Object.assign(clip, await ask(`api/clips?${new URLSearchParams({ model: this.model.id, id: clip.id })}`));
      } catch (error) {
        this.complain(error, () => this.measure());
        return;
      }
      if (clip !== this.chosen) return;
      const line = this.root.querySelector(':checked').closest('label').querySelector('.muted');
      line.textContent = `${clip.frames} frames`;
    }
    this.tell();
    this.changed();
  }

  tell() {
    byId('clip-notes').replaceChildren(...(this.chosen?.notes ?? []).map(note => make('p', {}, note)));
  }

  complain(error, again) {
    if (error) complain(byId('clip-message'), error, again);
    else byId('clip-message').replaceChildren();
  }

  async draw(seed) {
    this.complain(null);
    const turn = this.turn, button = byId('draw');
    if (!Number.isInteger(seed) || seed < 0) return this.complain(new Refused('The seed must be a whole number, 0 or more.'));
    button.disabled = true;
    try {
      const clip = await ask('api/clips', 'POST', { model: this.model.id, draw: seed });
      if (turn !== this.turn) return;
      this.drawn = [...this.drawn.filter(one => one.id !== clip.id), clip];
      byId('draw-seed').value = seed + 1;
      await this.show(clip.id);
    } catch (error) {
      this.complain(error, () => this.draw(seed));
    } finally {
      button.disabled = false;
    }
  }

  async take(file) {
    if (!file) return;
    this.complain(null);
    if (this.model?.observes_labels) {
      return this.complain(new Refused('This model observes label maps beside the frames, so it takes clips of its data set alone.'));
    }
    const most = this.limits.upload_bytes, megabytes = bytes => `${(bytes / 2 ** 20).toFixed(0)} MB`;
    if (most && file.size > most) {
      return this.complain(new Refused(`${file.name} has ${megabytes(file.size)}; a clip may have ${megabytes(most)} at most. Cut it shorter or smaller.`));
    }
    const bar = byId('upload-progress'), turn = this.turn;
    bar.hidden = false;
    try {
      const clip = await upload('api/clips', file, file.name, this.model.id, share => {
        if (share < 1) bar.value = share;
        else bar.removeAttribute('value');  // sent; the server is reading it
      });
      this.uploads.add(clip.id);
      this.own.push(clip);
      if (turn === this.turn) this.show(clip.id);
      else this.use(this.model, clip.id);  // another model was chosen meanwhile
    } catch (error) {
      this.complain(error, () => this.take(file));
    } finally {
      bar.hidden = true;
      bar.value = 0;
    }
  }
}
