// What the model attends to, as a layer over the video: a coarse map for moments of it, and a box.

const STOPS = [[0, 0, 4], [120, 28, 109], [237, 105, 37], [252, 255, 164]];  // dark to bright, as inferno

export class HeatLayer {
  constructor(canvas, video) {
    Object.assign(this, { canvas, video, found: null, opacity: 0.7 });
    this.small = document.createElement("canvas");
    const follow = () => {
      this.draw();
      if (this.found && !video.paused) requestAnimationFrame(follow);
    };
    video.addEventListener("play", follow);
    for (const event of ["seeked", "timeupdate", "loadedmetadata"]) video.addEventListener(event, () => this.draw());
    new ResizeObserver(() => this.draw()).observe(video);
  }

  show(found) {
    this.found = found;
    if (found) {
      this.bytes = Uint8Array.from(atob(found.maps), (letter) => letter.charCodeAt(0));
      Object.assign(this.small, { width: found.columns, height: found.rows });
    }
    this.canvas.hidden = !found;
    this.draw();
  }

  fade(opacity) {
    this.opacity = opacity;
    this.draw();
  }

  // The number of the last map that is not later than the frame that is shown.
  at(seconds) {
    const { seconds: times } = this.found;
    let [low, high] = [0, times.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] <= seconds + 1e-3) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  draw() {
    const { canvas, video, found } = this;
    if (!found || !video.videoWidth) return;
    const scale = window.devicePixelRatio || 1;
    const { clientWidth: wide, clientHeight: tall } = video;
    Object.assign(canvas, { width: Math.round(wide * scale), height: Math.round(tall * scale) });
    const context = canvas.getContext("2d");
    const shrink = Math.min(wide / video.videoWidth, tall / video.videoHeight) * scale;
    const [width, height] = [video.videoWidth * shrink, video.videoHeight * shrink];
    const [left, top] = [(canvas.width - width) / 2, (canvas.height - height) / 2];
    const number = this.at(video.currentTime);
    this.paint(number);
    context.imageSmoothingQuality = "high";
    context.globalAlpha = this.opacity;
    context.drawImage(this.small, left, top, width, height);
    const box = found.boxes[number];
    if (!box) return;
    context.strokeStyle = "#ffe14d";
    context.lineWidth = 2 * scale;
    context.strokeRect(left + box[0] * width, top + box[1] * height, (box[2] - box[0]) * width, (box[3] - box[1]) * height);
  }

  paint(number) {
    const { rows, columns } = this.found;
    const context = this.small.getContext("2d");
    const image = context.createImageData(columns, rows);
    const first = number * rows * columns;
    for (let cell = 0; cell < rows * columns; cell += 1) {
      const share = (this.bytes[first + cell] / 255) * (STOPS.length - 1);
      const low = Math.min(STOPS.length - 2, Math.floor(share));
      for (let channel = 0; channel < 3; channel += 1) {
        const [from, to] = [STOPS[low][channel], STOPS[low + 1][channel]];
        image.data[4 * cell + channel] = from + (share - low) * (to - from);
      }
      image.data[4 * cell + 3] = 40 + 215 * Math.sqrt(this.bytes[first + cell] / 255);
    }
    context.putImageData(image, 0, 0);
  }
}
