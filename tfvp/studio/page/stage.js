// All results on the page, one or two, under one clock.

import { Curves } from './curves.js';
import { byId, still } from './dom.js';

export class Stage {
  constructor() {
    this.results = [];
    this.clock = new Clock({ frames: 1, observed: 0, fps: 8, draw: frame => this.draw(frame) });
    this.curves = new Curves(byId('curves'), byId('values'), frame => { this.clock.setPlaying(false); this.clock.show(frame); });
    this.drawn = 0;
    addEventListener('resize', () => { for (const result of this.results) result.resize(); });
  }

  clear() {
    this.results = [];
    this.begun = false;
    this.clock.setPlaying(false);
    this.clock.current = 0;
    this.curves.clear();
    byId('sides').replaceChildren();
    byId('stage').hidden = true;
  }

  // Shows results side by side, as far as they are there.
  show(results) {
    this.results = results;
    byId('sides').classList.toggle('two', results.length > 1);
    this.refresh();
  }

  refresh() {
    const begun = this.results.filter(result => result.started);
    if (!begun.length) return;
    byId('stage').hidden = false;
    byId('empty').hidden = true;
    for (const [i, result] of begun.entries()) if (!result.element.isConnected) {
      byId('sides').insertBefore(result.element, byId('sides').children[i] ?? null);  // in order, whichever came first
      result.resize();
    }
    // What was broken off is shown as far as it came, and holds up no other.
    const whole = begun.filter(result => result.answer || !result.job.over), [{ shape }] = begun;
    const least = whole.length ? Math.min(...whole.map(result => result.ready)) : Math.max(...begun.map(result => result.ready));
    const frames = whole.length ? Math.max(...whole.map(result => result.shape.frames)) : Math.max(1, least);
    this.clock.load({ ...shape, frames, ready: Math.max(1, least) });
    if (!this.begun) {
      this.begun = true;
      if (!still()) this.clock.setPlaying(true);
    }
  }

  // Curves of the results that are complete.
  score() {
    const scored = this.results.filter(result => result.answer && Object.keys(result.answer.curves ?? {}).length);
    if (scored.length) this.curves.show(scored);
    else this.curves.clear();
    this.refresh();
  }

  draw(frame) {
    for (const result of this.results) if (result.started) result.draw(frame);
    this.curves.follow(frame);
    document.body.dataset.drawn = this.drawn += 1;
  }
}
