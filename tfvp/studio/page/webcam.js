// Records a few seconds from the webcam, where the browser has one and the page may use it.

import { Refused } from './api.js';
import { byId, make } from './dom.js';

const SECONDS = 5;
const KINDS = ['video/webm', 'video/mp4'];

export class Recorder {
  // recorded(file) gets the clip; failed(error) a sentence, or null when one is no longer true.
  constructor(limits, recorded, failed) {
    Object.assign(this, { recorded, failed, seconds: Math.min(SECONDS, limits.upload_seconds ?? SECONDS), stream: null });
    Object.assign(this, { button: byId('webcam'), place: byId('recorder') });
    // Browsers have no camera for pages that are neither encrypted nor of this machine.
    this.button.hidden = !navigator.mediaDevices?.getUserMedia || !window.MediaRecorder;
    this.button.onclick = () => (this.stream ? this.close() : this.open());
  }

  async open() {
    this.failed(null);
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } }, audio: false });
    } catch (error) {
      const refused = error.name === 'NotAllowedError';
      this.failed(new Refused(refused
        ? 'The browser does not let this page use the webcam; allow it beside the address, or upload a file.'
        : 'No webcam was found, or another program has it; upload a file instead.'));
      return;
    }
    const preview = make('video', { autoplay: true, muted: true, playsinline: true, 'aria-label': 'what the webcam sees' });
    preview.muted = true;
    preview.srcObject = this.stream;
    this.start = make('button', { type: 'button', click: () => this.record() }, `Record ${this.seconds} s`);
    this.left = make('span', { role: 'status' });
    this.place.replaceChildren(preview, make('div', { class: 'line' }, this.start, this.left));
    this.place.hidden = false;
    this.button.textContent = 'Close the webcam';
    this.start.focus();
  }

  record() {
    const kind = KINDS.find(one => MediaRecorder.isTypeSupported(one));
    const recorder = new MediaRecorder(this.stream, kind ? { mimeType: kind } : {}), parts = [];
    const ends = performance.now() + 1000 * this.seconds;
    recorder.ondataavailable = event => parts.push(event.data);
    recorder.onstop = () => {
      clearInterval(count);
      const type = recorder.mimeType || kind || KINDS[0], name = type.includes('mp4') ? 'webcam.mp4' : 'webcam.webm';
      this.close();
      if (parts.length) this.recorded(new File(parts, name, { type }));
    };
    const count = setInterval(() => {
      const left = (ends - performance.now()) / 1000;
      if (left > 0) this.left.textContent = `${Math.ceil(left)} s left`;
      else if (recorder.state === 'recording') recorder.stop();
    }, 100);
    this.start.disabled = true;
    recorder.start();
  }

  close() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.place.hidden = true;
    this.place.replaceChildren();
    this.button.textContent = 'Record from the webcam';
  }
}
