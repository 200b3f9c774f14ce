// The page of `muybridge serve`: a recording goes up, its timeline comes back and is shown beside it.

import { ask, Failure, models, rememberToken } from "/static/requests.js";
import { asCsv, asSrt, clock, download } from "/static/formats.js";
import { SkeletonPlayer } from "/static/skeleton.js";
import { colorsOf, drawPlot } from "/static/plot.js";
import { HeatLayer } from "/static/heat.js";

const $ = (id) => document.getElementById(id);
const state = { models: [], answer: null, media: null, running: null, recorder: null, address: null };
const heat = new HeatLayer($("heat"), $("video"));

// ---- what the server has

async function start() {
  try {
    const known = await models();
    state.models = known.models;
    show("token-form", false);
    show("input", true);
    $("model").replaceChildren(...state.models.map((model) => new Option(`${model.name} (${model.system})`, model.name)));
    show("model-choice", state.models.length > 1);
    chooseModel();
  } catch (error) {
    show("input", false);
    if (error instanceof Failure && error.status === 401) show("token-form", true);
    else showError(error);
  }
}

function model() {
  return state.models.find((one) => one.name === $("model").value) ?? state.models[0];
}

function chooseModel() {
  const chosen = model();
  const kind = chosen.takes === "video" ? "A video" : "A file of skeletons";
  const common = [".mp4", ".mov", ".avi", ".mkv", ".webm"].filter((suffix) => chosen.suffixes.includes(suffix));
  const suffixes = common.length ? `${common.join(", ")} and others` : chosen.suffixes.join(", ");
  $("takes").textContent = `${kind} (${suffixes}); ${chosen.labels.length} classes`;
  $("file").accept = chosen.suffixes.join(",");
  $("window").placeholder = $("window").title = `0: ${chosen.window} s, as in training`;
  show("record", chosen.takes === "video" && Boolean(navigator.mediaDevices && window.MediaRecorder));
}

// ---- from a file to an answer

async function process(file, name) {
  state.running?.abort();
  const running = (state.running = new AbortController());
  show("error", false);
  show("result", false);
  show("progress", true);
  report(`Sending ${name}`, 0);
  const chosen = model();
  const query = { model: chosen.name, filename: name, window: $("window").value || 0, hop: $("hop").value || 0 };
  try {
    const answer = await ask("/v1/timeline", query, file, running.signal, {
      sent: (share) => (share < 1 ? report(`Sending ${name}`, share) : report("Reading the recording", null)),
      line: (line) => line.progress > 0 && report("Finding actions", line.progress),
    });
    const joints = chosen.takes === "skeletons" ? await ask("/v1/joints", query, file, running.signal, {}) : null;
    await showAnswer(answer, file, joints, chosen);
  } catch (error) {
    if (running === state.running) showError(error);
  } finally {
    if (running === state.running) show("progress", false);
  }
}

function report(text, share) {
  $("stage").textContent = share === null ? text : `${text}: ${Math.floor(100 * share)} %`;
  if (share === null) $("bar").removeAttribute("value");
  else $("bar").value = share;
}

function showError(error) {
  if (error.name === "AbortError") return;
  const parts = error instanceof Failure ? error : { problem: String(error), expected: "", hint: "" };
  $("problem").textContent = sentence(parts.file ? `${parts.file}: ${parts.problem}` : parts.problem, false);
  $("expected").textContent = parts.expected && `Expected: ${parts.expected}.`;
  $("hint").textContent = sentence(parts.hint, true);
  show("error", true);
  $("error").scrollIntoView({ block: "nearest" });
}

const sentence = (text, capital) => {
  if (!text) return "";
  const first = capital ? text[0].toUpperCase() + text.slice(1) : text;
  return /[.?!]$/.test(first) ? first : `${first}.`;
};

// ---- the answer

async function showAnswer(answer, file, joints, chosen) {
  state.answer = answer;
  state.media?.end();
  if (state.address) URL.revokeObjectURL(state.address);
  state.address = null;
  const recording = answer.recording;
  $("name").textContent = answer.path;
  const size = recording.kind === "video"
    ? `${recording.width} x ${recording.height} pixels`
    : `${recording.people} ${recording.people === 1 ? "person" : "people"}, ${recording.joints} joints`;
  $("facts").textContent =
    `${recording.seconds.toFixed(1)} s, ${recording.frames} frames, ${size}; ` +
    `window ${answer.window.toFixed(2)} s, hop ${answer.hop.toFixed(2)} s; model ${answer.model}`;
  show("result", true);
  show("unplayable", false);
  state.file = file;
  state.looking?.abort();
  heat.show(null);
  show("fader", false);
  show("looks", !joints);
  show("look", true);
  $("look").disabled = false;
  $("look-note").textContent = "";
  state.media = joints ? new SkeletonPlayer($, joints, chosen.layout, update) : new VideoMedia(file);
  drawSegments();
  redraw();
  update(0);
  $("name").scrollIntoView({ block: "start" });
}

class VideoMedia {
  constructor(file) {
    const video = $("video");
    state.address = URL.createObjectURL(file);
    this.time = 0;
    this.playable = true;
    video.src = state.address;
    video.ontimeupdate = () => update((this.time = video.currentTime));
    video.onseeked = video.ontimeupdate;
    video.onerror = () => {
      this.playable = false;
      show("video", false);
      show("looks", false);
      $("unplayable").textContent = "This browser cannot play the file; its timeline stands below.";
      show("unplayable", true);
    };
    show("video", true);
    show("skeleton", false);
    show("player", false);
  }

  seek(seconds) {
    this.time = seconds;
    if (this.playable) $("video").currentTime = seconds;
    update(seconds);
  }

  end() {
    $("video").onerror = null;
    $("video").removeAttribute("src");
    $("video").load();
  }
}

function duration() {
  return state.answer.edges.at(-1);
}

function drawSegments() {
  const { answer } = state;
  const colors = colorsOf(answer);
  const total = duration();
  $("segments").replaceChildren(...answer.segments.map((segment) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = segment.label;
    button.title = `${clock(segment.start)} to ${clock(segment.end)}: ${segment.label}, ${percent(segment.score)}`;
    button.setAttribute("aria-label", button.title);
    button.style.left = `${(100 * segment.start) / total}%`;
    button.style.width = `${(100 * (segment.end - segment.start)) / total}%`;
    button.style.background = colors.get(segment.label);
    button.onclick = (event) => { event.stopPropagation(); state.media.seek(segment.start); };
    return button;
  }));
  $("rows").replaceChildren(...answer.segments.map((segment) => {
    const row = document.createElement("tr");
    const jump = document.createElement("button");
    jump.type = "button";
    jump.textContent = clock(segment.start);
    jump.setAttribute("aria-label", `Go to ${clock(segment.start)}, ${segment.label}`);
    jump.onclick = () => state.media.seek(segment.start);
    const cells = [jump, clock(segment.end), segment.label, percent(segment.score)].map((content) => {
      const cell = document.createElement("td");
      cell.append(content);
      return cell;
    });
    row.append(...cells);
    return row;
  }));
  show("none", answer.segments.length === 0);
  $("legend").replaceChildren(...[...colors].map(([label, color]) => {
    const item = document.createElement("li");
    const mark = document.createElement("i");
    mark.style.background = color;
    item.append(mark, label);
    return item;
  }));
  $("timeline").setAttribute("aria-valuemax", total.toFixed(2));
}

function redraw() {
  if (state.answer) drawPlot($("plot"), state.answer, colorsOf(state.answer));
}

function update(seconds) {
  const { answer } = state;
  const share = Math.min(1, seconds / duration());
  $("head").style.left = `calc(${100 * share}% - 1px)`;
  $("timeline").setAttribute("aria-valuenow", seconds.toFixed(2));
  $("timeline").setAttribute("aria-valuetext", clock(seconds));
  const current = answer.segments.findIndex((one) => one.start <= seconds + 1e-6 && seconds < one.end);
  $("now").textContent = current < 0 ? "" : answer.segments[current].label;
  [...$("rows").children].forEach((row, number) => row.classList.toggle("current", number === current));
}

const percent = (score) => `${(100 * score).toFixed(0)} %`;
const show = (id, visible) => { $(id).hidden = !visible; };

// ---- where the model looks

async function look() {
  const { answer, file } = state;
  const looking = (state.looking = new AbortController());
  $("look").disabled = true;
  try {
    $("look-note").textContent = "Asking the model";
    const query = { model: answer.model, filename: answer.path, window: answer.window };
    const found = await ask("/v1/maps", query, file, looking.signal, {});
    if (looking.signal.aborted) return;
    heat.show(found);
    show("look", false);
    show("fader", true);
    $("fade").focus();
    const what = found.kind === "attention" ? "The attention of the model" : "The activation of the predicted class";
    $("look-note").textContent = `${what}${found.boxes.length ? ", and a box around it" : ""}`;
  } catch (error) {
    if (error.name === "AbortError") return;
    $("look").disabled = false;
    $("look-note").textContent = sentence(error instanceof Failure ? `${error.problem}; ${error.hint}` : String(error), true);
  }
}

// ---- the camera

async function record() {
  show("error", false);
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: false });
    const pieces = [];
    $("camera").srcObject = stream;
    await $("camera").play();
    show("camera", true);
    const recorder = (state.recorder = new MediaRecorder(stream));
    recorder.ondataavailable = (event) => event.data.size && pieces.push(event.data);
    recorder.onstop = () => {
      stream.getTracks().forEach((track) => track.stop());
      show("camera", false);
      show("stop", false);
      show("record", true);
      const kind = recorder.mimeType.split(";")[0];
      process(new Blob(pieces, { type: kind }), `camera.${kind === "video/mp4" ? "mp4" : "webm"}`);
    };
    recorder.start(250);
    show("record", false);
    show("stop", true);
    $("stop").focus();
  } catch (error) {
    showError(new Failure(0, {
      problem: `the camera cannot be used (${error.message || error.name})`,
      expected: "a camera, and the permission to use it",
      hint: "allow it in the browser's settings for this page",
    }));
  }
}

// ---- events

$("model").onchange = chooseModel;
$("file").onchange = () => { const [file] = $("file").files; if (file) process(file, file.name); $("file").value = ""; };
$("record").onclick = record;
$("look").onclick = look;
$("fade").oninput = () => heat.fade(Number($("fade").value));
$("stop").onclick = () => state.recorder.stop();
$("cancel").onclick = () => { state.running.abort(); show("progress", false); };
$("token-form").onsubmit = (event) => { event.preventDefault(); rememberToken($("token").value); show("error", false); start(); };

for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    const file = kind === "drop" && !$("input").hidden && event.dataTransfer.files[0];
    if (file) process(file, file.name);
  });
}

function seekByPointer(event) {
  const box = $("timeline").getBoundingClientRect();
  state.media.seek(Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * duration());
}

$("timeline").addEventListener("pointerdown", (event) => {
  if (event.target.closest("button")) return;
  $("timeline").setPointerCapture(event.pointerId);
  seekByPointer(event);
});
$("timeline").addEventListener("pointermove", (event) => {
  if ($("timeline").hasPointerCapture(event.pointerId)) seekByPointer(event);
});
$("timeline").addEventListener("keydown", (event) => {
  if (event.target !== $("timeline")) return;
  const steps = { ArrowLeft: -state.answer.hop, ArrowRight: state.answer.hop, PageUp: -10, PageDown: 10 };
  const ends = { Home: 0, End: duration() };
  const time = event.key in ends ? ends[event.key] : state.media.time + (steps[event.key] ?? NaN);
  if (Number.isNaN(time)) return;
  event.preventDefault();
  state.media.seek(Math.max(0, Math.min(duration(), time)));
});

for (const button of document.querySelectorAll("[data-format]")) {
  button.onclick = () => {
    const { answer } = state;
    const kind = button.dataset.format;
    const text = { csv: asCsv, srt: asSrt, json: (one) => JSON.stringify(one, null, 1) }[kind](answer);
    download(text, `${answer.path.replace(/\.[^.]*$/, "")}.${kind}`);
  };
}

new ResizeObserver(redraw).observe($("plot"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
start();
