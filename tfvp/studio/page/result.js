// One prediction on the page: its videos, of which every frame is a piece of a larger picture, and its files.

import { make, seconds } from './dom.js';

const SIDE = { least: 150, most: 280 };  // pixels of the shorter side of a frame
const FEW = 4;  // videos that share the width of a row
const WIDE = 1.6;  // aspect ratio above which a frame has a narrow screen's width for itself

// A picture that holds frames from ... to of a video, side by side in rows of `columns`.
async function strip({ url, columns }, from, to) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return { image, columns, from, to };
}

class Video {
  constructor({ key, kind, title }, [height, width]) {
    Object.assign(this, { key, kind, title, width, height, strips: [] });
    this.canvas = make('canvas', { role: 'img', 'aria-label': title, width, height });
    this.name = make('span', {}, title);
    this.element = make('figure', width > WIDE * height ? { class: 'wide' } : {}, this.canvas, make('figcaption', {}, this.name));
    this.element.dataset.key = key;
  }

  // How far its frames are there without a gap.
  get ready() {
    let end = 0;
    for (const { from, to } of [...this.strips].sort((a, b) => a.from - b.from)) if (from <= end) end = Math.max(end, to);
    return end;
  }

  show(frame, observed) {
    const pen = this.canvas.getContext('2d'), { width, height } = this;
    const place = this.strips.find(one => frame >= one.from && frame < one.to);
    pen.clearRect(0, 0, width, height);
    if (place) {
      const n = frame - place.from, x = (n % place.columns) * width, y = Math.floor(n / place.columns) * height;
      pen.drawImage(place.image, x, y, width, height, 0, 0, width, height);
    }
    this.canvas.classList.toggle('predicted', frame >= observed && this.kind !== 'truth');
  }

  // `room` is the width that it may take, if it is large enough.
  size(room) {
    const side = Math.min(this.width, this.height), least = Math.round(SIDE.least / side);
    const zoom = Math.max(1, least, Math.min(Math.floor(room / this.width), Math.ceil(SIDE.most / side)));
    this.canvas.style.width = `${zoom * this.width}px`;
    this.element.style.width = `${zoom * this.width + 6}px`;
  }
}

export class Result {
  // redraw(): called when there is more to be shown. choose(): when another future was chosen.
  constructor(job, { redraw, choose }) {
    Object.assign(this, { job, redraw, choose, name: job.model.id.replace(/^\w+\//, ''), videos: [], chosen: 0, shape: null, answer: null });
    this.row = make('div', { class: 'row' });
    this.notes = make('div', { class: 'notes' });
    this.files = make('div', { class: 'files' });
    this.element = make('article', { class: 'side', 'aria-label': job.model.title },
      make('h2', {}, job.model.title), make('p', { class: 'muted' }, job.summary), this.row, this.notes, this.files);
  }

  get started() { return this.shape !== null; }

  get ready() {
    const moving = this.videos.filter(video => video.kind === 'future');
    return moving.length ? Math.min(...moving.map(video => video.ready)) : this.answer ? this.shape.frames : 0;
  }

  video(description) {
    let video = this.videos.find(one => one.key === description.key);
    if (!video) {
      video = new Video(description, this.shape.frame);
      this.videos.push(video);
    }
    return video;
  }

  begin({ observed, horizon, futures, fps, frame }) {
    this.shape = { observed, horizon, futures, fps, frame, frames: observed + horizon };
  }

  futureVideos() {
    return Array.from({ length: this.shape.futures }, (_, i) => this.video(
      { key: `future/${i}`, kind: 'future', title: this.shape.futures > 1 ? `Future ${i + 1}` : 'Prediction' }));
  }

  // The clip has been read: its frames are shown before the first predicted ones are there.
  async observed(event) {
    this.begin(event);
    const known = await strip(event.strip, 0, event.known);
    if (this.answer) return;
    if (event.known > event.observed) this.video({ key: 'truth', kind: 'truth', title: 'Truth' }).strips = [known];
    for (const video of this.futureVideos()) video.strips.push({ ...known, to: event.observed });
    this.arrange();
    this.redraw();
  }

  async frames({ from, to, strips }) {
    const { observed } = this.shape;
    const parts = await Promise.all(strips.map(one => strip(one, observed + from, observed + to)));
    if (this.answer) return;
    this.futureVideos().forEach((video, i) => {
      if (!video.strips.some(one => one.from === parts[i].from)) video.strips.push(parts[i]);
    });
    this.redraw();
  }

  async finish(answer) {
    const futures = answer.players.filter(one => one.kind === 'future').length;
    const strips = await Promise.all(answer.players.map(player => strip(player.strip, 0, player.frames)));
    this.begin({ ...answer, futures });
    Object.assign(this, { answer, videos: [] });
    answer.players.forEach((player, i) => {
      const video = this.video(player);
      video.strips = [strips[i]];
      this.caption(video, player, futures);
    });
    this.arrange();
    this.tell();
    this.redraw();
  }

  caption(video, player, futures) {
    if (player.kind !== 'future' || futures < 2) return;
    const number = Number(player.key.split('/')[1]);
    const pick = make('button', { type: 'button', class: 'pick', 'aria-pressed': String(number === this.chosen),
      title: 'compare this future with the truth', click: () => this.pick(number) }, player.title);
    const tags = ['best', 'worst'].filter(which => player[which]).map(which => make('span', { class: `tag ${which}` }, which));
    video.name.replaceWith(make('span', {}, pick, ...tags.flatMap(tag => [' ', tag])));
    video.canvas.onclick = () => this.pick(number);
    video.element.classList.toggle('chosen', number === this.chosen);
  }

  pick(number) {
    this.chosen = number;
    for (const video of this.videos.filter(one => one.kind === 'future')) {
      const mine = video.key === `future/${number}`;
      video.element.classList.toggle('chosen', mine);
      video.element.querySelector('.pick')?.setAttribute('aria-pressed', String(mine));
    }
    this.arrange();
    this.choose();
  }

  // Videos that are on the page: the difference and the label map are those of the chosen future.
  shown() {
    const own = video => !/^(difference|labels)\/\d+$/.test(video.key) || video.key.endsWith(`/${this.chosen}`);
    return this.videos.filter(own);
  }

  arrange() {
    this.row.replaceChildren(...this.shown().map(video => video.element));
    this.resize();
  }

  resize() {
    const shown = this.shown(), room = shown.length <= FEW ? this.row.clientWidth / shown.length - 17 : 0;
    for (const video of shown) video.size(room);
  }

  draw(frame) {
    for (const video of this.shown()) video.show(frame, this.shape.observed);
  }

  tell() {
    const { notes = [], seconds: times, downloads = {}, command } = this.answer;
    const named = { observe: 'observed in', first_frames: 'first frames after', all: 'everything after' };
    const told = Object.entries(named).filter(([key]) => times?.[key] != null).map(([key, text]) => `${text} ${seconds(times[key])}`);
    this.notes.replaceChildren(...notes.map(note => make('p', { class: 'notice' }, note)),
      told.length ? make('p', { class: 'muted' }, `${told.join(', ')}.`) : '');
    const links = Object.entries(downloads).map(([kind, url]) => make('a', { class: 'button', href: url, download: '' }, kind.toUpperCase()));
    this.files.replaceChildren(links.length ? make('div', { class: 'line' }, 'Download', ...links) : '');
    if (command) this.files.append(commandLine(command));
  }
}

// The command, and a button that copies it or, where the clipboard is refused, marks it.
function commandLine(command) {
  const text = make('code', { tabindex: 0 }, command), said = make('span', { role: 'status', class: 'muted' });
  const copy = make('button', { type: 'button', click: async () => {
    try {
      await navigator.clipboard.writeText(command);
      said.textContent = 'copied';
    } catch {
      getSelection().selectAllChildren(text);
      said.textContent = 'marked; copy it with Ctrl+C or ⌘C';
    }
  } }, 'Copy as command');
  return make('div', { class: 'command' }, make('div', { class: 'line' }, copy, said), text);
}

