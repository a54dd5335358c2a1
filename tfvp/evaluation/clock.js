// One clock for all videos of a page, and its bar: the elements #play, #back, #forward, #frame, #label, #speed and,
// where a page has one, the check box #loop.
class Clock {
  // frames: of every video. observed: those before the first predicted one. fps: at speed 1. draw(frame): shows one.
  constructor({ frames, observed, fps, draw }) {
    Object.assign(this, { frames, observed, fps, draw, ready: frames, current: 0, carried: 0, last: null });
    for (const id of ['play', 'frame', 'speed', 'label', 'loop']) this[id] = document.getElementById(id);
    this.playing = false;
    this.play.onclick = () => this.setPlaying(!this.playing);
    this.frame.oninput = () => { this.setPlaying(false); this.show(Number(this.frame.value)); };
    document.getElementById('back').onclick = () => this.step(-1);
    document.getElementById('forward').onclick = () => this.step(1);
    document.addEventListener('keydown', event => this.key(event));
    setInterval(() => this.tick(), 20);
  }

  // Other videos; `ready` of their frames can be shown, and the rest is waited for.
  load({ frames, observed, fps, ready = frames }) {
    Object.assign(this, { frames, observed, fps, ready });
    this.show(Math.min(this.current, ready - 1));
  }

  show(frame) {
    this.current = Math.max(0, Math.min(frame, this.ready - 1));
    this.draw(this.current);
    const kind = this.current < this.observed ? 'observed' : 'predicted';
    this.frame.max = this.frames - 1;
    this.frame.value = this.current;
    this.frame.setAttribute('aria-valuetext', `frame ${this.current + 1}, ${kind}`);
    this.label.textContent = `frame ${this.current + 1} of ${this.frames}, ${kind}`;
    document.body.dataset.frame = this.current;
  }

  setPlaying(value) {
    this.playing = value; this.carried = 0; this.last = null;
    this.play.textContent = value ? 'Pause' : 'Play';
    const ended = !this.loops() && this.current === this.frames - 1;
    if (value && ended) this.show(0);
  }

  loops() { return !this.loop || this.loop.checked; }

  step(by) {
    this.setPlaying(false);
    this.show(this.ready < this.frames ? this.current + by : (this.current + by + this.frames) % this.frames);
  }

  advance(by) {
    const next = this.current + by;
    if (next < this.ready) this.show(next);
    else if (this.ready < this.frames) this.show(this.ready - 1);
    else if (this.loops()) this.show(next % this.frames);
    else { this.show(this.frames - 1); this.setPlaying(false); }
  }

  tick() {
    const now = performance.now();
    if (this.playing && this.last !== null) {
      this.carried += Math.min(now - this.last, 500) * this.fps * this.speed.value / 1000;
      const passed = Math.floor(this.carried);
      this.carried -= passed;
      if (passed) this.advance(passed);
    }
    this.last = now;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, select, textarea, .scroll')) return;
    if (event.key === ' ' && event.target.closest('button, summary, a')) return;
    const actions = {
      ' ': () => this.setPlaying(!this.playing), ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1),
    };
    const action = actions[event.key];
    if (action) { event.preventDefault(); action(); }
  }
}
