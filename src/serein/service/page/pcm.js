// Runs in the audio thread: passes on the samples of the microphone in blocks of 1,024.

class Pcm extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(1024);
    this.filled = 0;
  }

  process([channels]) {
    for (const sample of channels[0] ?? []) {
      this.block[this.filled++] = sample;
      if (this.filled < this.block.length) continue;
      this.port.postMessage(this.block);
      this.block = new Float32Array(1024);
      this.filled = 0;
    }
    return true;
  }
}

registerProcessor("pcm", Pcm);
