// Requests to the server, with the progress of what is sent and of the work; errors have the server's three parts.

export class Failure extends Error {
  constructor(status, parts) {
    super(parts.problem);
    Object.assign(this, { status, problem: parts.problem, expected: parts.expected, hint: parts.hint, file: parts.file });
  }
}

const LINES = "application/x-ndjson";
const KEY = "muybridge-token";

export function rememberToken(token) {
  sessionStorage.setItem(KEY, token);
}

function headers() {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

export async function models() {
  const response = await fetch("/v1/models", { headers: headers() });
  const answer = await response.json();
  if (!response.ok) throw new Failure(response.status, answer.error);
  return answer;
}

// XMLHttpRequest, since fetch does not say how much of a body is sent.
export function ask(path, query, file, signal, { sent = () => {}, line = () => {} }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let read = 0;
    let last = null;
    const readLines = () => {
      const text = request.responseText;
      for (let end = text.indexOf("\n", read); end >= 0; end = text.indexOf("\n", read)) {
        last = JSON.parse(text.slice(read, end));
        read = end + 1;
        line(last);
      }
    };
    const inLines = () => (request.getResponseHeader("content-type") ?? "").startsWith(LINES);
    request.open("POST", `${path}?${new URLSearchParams(query)}`);
    for (const [name, value] of Object.entries({ ...headers(), Accept: LINES })) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && sent(event.loaded / event.total);
    request.upload.onload = () => sent(1);
    request.onprogress = () => inLines() && readLines();
    request.onload = () => {
      try {
        if (inLines()) readLines();
        else last = JSON.parse(request.responseText);
      } catch {
        last = null;
      }
      if (last?.error) reject(new Failure(request.status, last.error));
      else if (request.status === 200 && last) resolve(last.timeline ?? last);
      else reject(broken(request.status));
    };
    request.onerror = () => reject(broken(0));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

function broken(status) {
  return new Failure(status, {
    problem: status ? `the answer of the server ended early (status ${status})` : "the server cannot be reached",
    expected: "a server that runs",
    hint: "check that `muybridge serve` still runs, and try again",
  });
}
