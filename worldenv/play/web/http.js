// What the page asks for beside the sessions, with the token that it was opened with: .../#token=SECRET

export const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";

/** Fetch what the server has at a path; an Error says what it answered if that was no good. */
export async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) throw new Error("this server asks for a token; open the page as .../#token=TOKEN");
  if (!answer.ok) throw new Error((await answer.text()) || `the server answered ${answer.status}`);
  return answer;
}

/** Send something of a kind to a path and return the JSON that comes back. */
export async function send(path, kind, body) {
  return (await ask(path, { method: "POST", headers: { "Content-Type": kind }, body })).json();
}
