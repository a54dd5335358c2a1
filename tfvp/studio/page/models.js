// The cards of models: trained ones that come with the package, and runs.

import { Refused } from './api.js';
import { byId, complain, make, number, picture } from './dom.js';

const MANY = 8;  // cards above which a field filters them
const SHOWN = ['psnr', 'ssim', 'lpips', 'fvd', 'miou'];  // of a model's numbers, those that a card has room for
const ROOM = 3;

export class Models {
  // changed(): called when the reader has chosen another model.
  constructor(changed) {
    Object.assign(this, { changed, all: [], root: byId('models'), filter: byId('model-filter') });
    this.filter.oninput = () => this.sift();
    this.root.onchange = () => { byId('model-message').replaceChildren(); this.tell(); this.changed(); };
  }

  show(models) {
    this.all = models;
    this.root.replaceChildren(...models.map(model => card(model)));
    this.root.setAttribute('aria-busy', 'false');
    this.filter.hidden = models.length <= MANY;
  }

  usable() { return this.all.filter(model => !model.problem); }

  get(id) { return this.usable().find(model => model.id === id); }

  get chosen() { return this.get(this.root.querySelector('input:checked')?.value); }

  // Marks a model; where there is none of this id that can be used, the first usable one, and says so.
  choose(id) {
    const model = this.get(id) ?? this.usable()[0];
    byId('model-message').replaceChildren();
    if (id !== undefined && model && model.id !== id) {
      const why = this.all.some(one => one.id === id) ? 'cannot be used' : 'is not here';
      complain(byId('model-message'), new Refused(`The model ${id} of this address ${why}; ${model.title} is chosen in its place.`));
    }
    const input = [...this.root.querySelectorAll('input')].find(radio => radio.value === model?.id);
    if (input) {
      input.checked = true;
      // Only the list scrolls, not the page.
      const card = input.closest('.card');
      if (card.offsetTop + card.offsetHeight > this.root.scrollTop + this.root.clientHeight) this.root.scrollTop = card.offsetTop;
    }
    this.tell();
  }

  tell() {
    const place = byId('model-limits'), { limits, protocol, numbers } = this.chosen ?? {};
    const sentences = [limits, numbers?.length && protocol ? `Numbers: ${protocol}; ± is half of the 95 % interval.` : null];
    place.hidden = !sentences.some(Boolean);
    place.querySelector('p').textContent = sentences.filter(Boolean).join(' ');
  }

  sift() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const label of this.root.children) {
      const text = label.textContent.toLowerCase();
      label.hidden = !words.every(word => text.includes(word));
    }
  }
}

function card(model) {
  const order = one => (SHOWN.indexOf(one.metric) + SHOWN.length + 1) % (SHOWN.length + 1);
  const chosen = [...model.numbers ?? []].sort((a, b) => order(a) - order(b)).slice(0, ROOM);
  const numbers = chosen.map(one => make('span', { class: 'score' },
    `${one.label} ${number(one.mean, one.ci95)}`,
    one.ci95 ? make('span', { class: 'muted' }, ` ± ${number(one.ci95, one.ci95)}`) : null,
    one.unit ? ` ${one.unit}` : null, one.higher_is_better === undefined ? null : one.higher_is_better ? ' ↑' : ' ↓'));
  const source = model.source === 'run' ? 'a run of yours' : model.shipped ? 'comes with tfvp' : 'published on this machine';
  const size = model.image_size ? `, ${model.image_size[1]}×${model.image_size[0]}` : '';
  const description = [model.system, `${model.data}${size}`, source].filter(Boolean).join(' · ');
  return make('label', { class: model.problem ? 'card broken' : 'card' },
    make('input', { type: 'radio', name: 'model', value: model.id, disabled: Boolean(model.problem) }),
    picture(model.picture, `what ${model.title} predicts`),
    make('span', { class: 'words' },
      make('span', { class: 'title' }, model.title),
      make('span', { class: 'muted' }, description),
      model.problem ? make('span', { class: 'problem' }, model.problem) : null,
      numbers.length ? make('span', { class: 'scores' }, ...numbers) : null));
}
