// Segments as files, as the server writes them.

export function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}

function stamp(seconds) {
  const total = Math.round(1000 * seconds);
  const pad = (value, digits) => String(value).padStart(digits, "0");
  const [hours, minutes, rest] = [Math.floor(total / 3600000), Math.floor(total / 60000) % 60, total % 60000];
  return `${pad(hours, 2)}:${pad(minutes, 2)}:${pad(Math.floor(rest / 1000), 2)},${pad(rest % 1000, 3)}`;
}

const decimal = (value) => (Number.isInteger(value) ? `${value}.0` : String(value));
const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

export function asCsv(answer) {
  const rows = answer.segments.map((one) => [
    quoted(answer.path), decimal(one.start), decimal(one.end), quoted(one.label), decimal(one.score),
  ]);
  return [["path", "start", "end", "label", "score"], ...rows].map((row) => `${row.join(",")}\n`).join("");
}

export function asSrt(answer) {
  return answer.segments
    .map((one, number) => {
      const label = one.label.split(/\s+/).join(" ").replaceAll("-->", "->");
      return `${number + 1}\n${stamp(one.start)} --> ${stamp(one.end)}\n${label} ${Math.round(100 * one.score)}%\n`;
    })
    .join("\n");
}

export function download(text, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
