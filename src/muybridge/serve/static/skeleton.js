// Skeletons drawn moving on a canvas, seen from the front: the first two coordinates, y upwards for three of them.

const COLORS = ["#1f6feb", "#d9480f", "#2b8a3e", "#9c36b5"];

export class SkeletonPlayer {
  constructor($, recording, layout, onTime) {
    this.canvas = $("skeleton");
    this.recording = recording;
    this.bones = layout.bones;
    this.onTime = onTime;
    this.time = 0;
    this.duration = recording.joints.length / recording.fps;
    this.playing = false;
    this.button = $("play");
    this.slider = $("seek");
    this.output = $("clock");
    this.slider.max = this.duration;
    this.slider.oninput = () => this.seek(Number(this.slider.value));
    this.button.onclick = () => (this.playing ? this.pause() : this.play());
    for (const [id, visible] of [["video", false], ["skeleton", true], ["player", true]]) $(id).hidden = !visible;
    this.measure();
    this.seek(0);
  }

  // One frame around the whole recording, so that walking is seen as walking.
  measure() {
    const points = this.recording.joints.flat(2).filter((joint) => joint !== null);
    const range = (axis) => [Math.min, Math.max].map((end) => points.reduce((best, one) => end(best, one[axis]), points[0][axis]));
    const [[left, right], [low, high]] = [range(0), range(1)];
    const { width, height } = this.canvas;
    const scale = 0.9 * Math.min(width / (right - left || 1), height / (high - low || 1));
    const up = points[0].length === 3 ? -1 : 1;
    this.place = ([x, y]) => [
      width / 2 + scale * (x - (left + right) / 2),
      height / 2 + up * scale * (y - (low + high) / 2),
    ];
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const frames = this.recording.joints;
    const frame = frames[Math.min(frames.length - 1, Math.floor(this.time * this.recording.fps))];
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    frame.forEach((person, number) => {
      context.strokeStyle = context.fillStyle = COLORS[number % COLORS.length];
      context.lineWidth = 3;
      for (const [from, to] of this.bones) {
        if (!person[from] || !person[to]) continue;
        context.beginPath();
        context.moveTo(...this.place(person[from]));
        context.lineTo(...this.place(person[to]));
        context.stroke();
      }
      for (const joint of person) {
        if (!joint) continue;
        context.beginPath();
        context.arc(...this.place(joint), 4, 0, 2 * Math.PI);
        context.fill();
      }
    });
  }

  seek(seconds) {
    this.time = Math.max(0, Math.min(this.duration, seconds));
    this.slider.value = this.time;
    this.output.textContent = `${this.time.toFixed(1)} / ${this.duration.toFixed(1)} s`;
    this.draw();
    this.onTime(this.time);
  }

  play() {
    this.playing = true;
    this.button.textContent = "Pause";
    const from = this.time >= this.duration ? 0 : this.time;
    const began = performance.now();
    const step = (now) => {
      if (!this.playing) return;
      const time = from + (now - began) / 1000;
      this.seek(time);
      if (time >= this.duration) this.pause();
      else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  pause() {
    this.playing = false;
    this.button.textContent = "Play";
  }

  end() {
    this.pause();
  }
}
