// The probabilities of the classes over time.

const COLORS = ["#0072b2", "#b34700", "#00805a", "#8f4a86", "#7a5c00", "#4f5bd5", "#a01f3c", "#356b7d"];
const MOST = 8;

// The classes that are drawn: those of segments, then those that are most probable at some time.
export function colorsOf(answer) {
  const peaks = answer.labels.map((label, k) => [label, Math.max(...answer.probabilities.map((row) => row[k]))]);
  const byPeak = peaks.sort((a, b) => b[1] - a[1]).map(([label]) => label);
  const found = answer.segments.map((segment) => segment.label);
  const chosen = [...new Set([...found, ...byPeak])];
  const count = Math.max(new Set(found).size, Math.min(MOST, chosen.length));
  return new Map(chosen.slice(0, count).map((label, number) => [label, COLORS[number % COLORS.length]]));
}

export function drawPlot(canvas, answer, colors) {
  const scale = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width) return;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const style = getComputedStyle(document.documentElement);
  const total = answer.edges.at(-1);
  const x = (seconds) => (width * seconds) / total;
  const y = (probability) => height - 6 - (height - 12) * probability;
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = style.getPropertyValue("--soft");
  context.strokeStyle = style.getPropertyValue("--line");
  context.lineWidth = 1;
  for (const level of [0, 0.5, 1]) {
    context.beginPath();
    context.moveTo(0, y(level));
    context.lineTo(width, y(level));
    context.stroke();
    context.fillText(`${100 * level} %`, 4, level === 1 ? y(level) + 12 : y(level) - 3);
  }
  for (const [label, color] of [...colors].reverse()) {
    const k = answer.labels.indexOf(label);
    context.strokeStyle = color;
    context.lineWidth = 2;
    context.beginPath();
    answer.probabilities.forEach((row, n) => {
      const middle = (answer.edges[n] + answer.edges[n + 1]) / 2;
      if (n === 0) context.moveTo(0, y(row[k]));
      context.lineTo(x(middle), y(row[k]));
      if (n === answer.probabilities.length - 1) context.lineTo(width, y(row[k]));
    });
    context.stroke();
  }
}
