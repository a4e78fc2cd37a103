// Keyboard, theme, relative times, news. The pages work without it.
"use strict";
(() => {
  const root = document.documentElement;
  const body = document.body;
  const byId = (id) => document.getElementById(id);
  root.classList.add("has-script");

  // Theme: a cookie, so that the server draws the next page right at once.
  const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
  const switchTheme = () => {
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches;
    root.dataset.theme = isDark ? "light" : "dark";
    document.cookie = `gatepost_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
  };

  // Times: written by the server, kept true here.
  const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const ago = (at) => {
    const seconds = Math.round((Date.now() - at) / 1000);
    const distance = Math.abs(seconds);
    if (distance < 5) return "now";
    if (distance >= 7 * 86400) return null;
    const [unit, length] = UNITS.find(([, size]) => distance >= size);
    const text = `${Math.floor(distance / length)} ${unit}`;
    return seconds < 0 ? `in ${text}` : `${text} ago`;
  };
  const countdown = (at) => {
    const left = Math.ceil((at - Date.now()) / 1000);
    if (left <= 0) return "now";
    const two = (n) => String(n).padStart(2, "0");
    const hours = Math.floor(left / 3600);
    if (hours >= 48) return ago(at) || "later";
    return `in ${hours ? `${hours}:${two(Math.floor(left / 60) % 60)}` : Math.floor(left / 60)}:${two(left % 60)}`;
  };
  const setText = (node, text) => { if (text !== null && node.textContent !== text) node.textContent = text; };
  const tick = (selector, write) => document.querySelectorAll(selector).forEach((node) => setText(node, write(Date.parse(node.dateTime))));
  setInterval(() => tick("time[data-countdown]", countdown), 1000);
  setInterval(() => tick("time[data-ago]", ago), 10000);
  const tickAll = () => { tick("time[data-countdown]", countdown); tick("time[data-ago]", ago); };
  tickAll();

  const toast = (text) => {
    const box = byId("toast");
    if (!box) return;
    box.textContent = text;
    box.hidden = false;
    clearTimeout(toast.timer);
    toast.timer = setTimeout(() => { box.hidden = true; }, 2500);
  };

  const copy = async (selector) => {
    const text = document.querySelector(selector).textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(document.querySelector(selector));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    toast("Copied");
  };

  document.addEventListener("click", (event) => {
    const copier = event.target.closest("[data-copy]");
    if (copier) copy(copier.dataset.copy);
    if (event.target.closest("[data-theme-switch]")) switchTheme();
    document.querySelectorAll("details.confirm[open]").forEach((open) => { if (!open.contains(event.target)) open.open = false; });
  });

  // Keyboard.
  const links = () => [...document.querySelectorAll("#rows .open")];
  const move = (step) => {
    const all = links();
    if (!all.length) return;
    const at = all.indexOf(document.activeElement);
    const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + step))];
    next.focus({ preventScroll: true });
    next.closest("tr").scrollIntoView({ block: "nearest" });
  };
  const KEYS = {
    j: () => move(1),
    k: () => move(-1),
    t: switchTheme,
    u: () => { if (body.dataset.message) location.href = sessionStorage.getItem("gatepost_list") || "/"; },
    "/": () => { const input = byId("search"); if (input) { input.focus(); input.select(); } },
    "?": () => { const keys = byId("keys"); if (keys && !keys.open) keys.showModal(); },
  };
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches("input, textarea, select") || event.target.isContentEditable;
    if (event.key === "Escape") {
      if (isTyping) event.target.blur();
      document.querySelectorAll("details.confirm[open]").forEach((open) => { open.open = false; open.querySelector("summary").focus(); });
    }
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  if ("query" in body.dataset) sessionStorage.setItem("gatepost_list", location.pathname + location.search);

  // News: the server says that something happened, the page fetches what it shows.
  const fetchInto = (url, id) => htmx.ajax("GET", url, { target: `#${id}`, select: `#${id}`, swap: "outerHTML" });
  const keepOpen = (id, work) => {
    const open = new Map([...document.querySelectorAll(`#${id} details[id]`)].map((one) => [one.id, one.open]));
    return work().then(() => open.forEach((isOpen, one) => { if (byId(one)) byId(one).open = isOpen; }));
  };
  const keepFocus = (work) => {
    const href = document.activeElement && document.activeElement.matches("#rows .open") ? document.activeElement.getAttribute("href") : null;
    return work().then(() => { if (href) document.querySelector(`#rows .open[href="${href}"]`)?.focus({ preventScroll: true }); });
  };
  const here = (changes) => {
    const url = new URL(location.href);
    Object.entries(changes).forEach(([name, value]) => (value ? url.searchParams.set(name, value) : url.searchParams.delete(name)));
    return url.pathname + url.search;
  };
  const refreshMessage = async () => {
    await keepOpen("timeline", () => fetchInto(here({ done: "", count: "" }), "timeline"));
    if (!document.querySelector("#head details[open]")) await fetchInto(here({ done: "", count: "" }), "head");
  };
  const refreshList = async (news) => {
    const { top, query } = body.dataset;
    if (!top) { if (news.newest && !query) location.reload(); return; }
    await keepFocus(() => fetchInto(here({ top, after: "", before: "" }), "rows"));
    if ("first" in body.dataset && news.newest > top) {
      await htmx.ajax("GET", `/new?${new URLSearchParams({ q: query, top })}`, { target: "#new", swap: "innerHTML" });
    }
  };
  const refresh = async (news) => {
    if (body.dataset.message) await refreshMessage();
    else if ("query" in body.dataset) await refreshList(news);
    else if (byId("sites") && !byId("sites").contains(document.activeElement)) await fetchInto("/q", "sites");
    tickAll();
  };
  let isBusy = false;
  let waiting = null;
  const enqueue = async (news) => {
    waiting = news;
    if (isBusy) return;
    isBusy = true;
    while (waiting) {
      const next = waiting;
      waiting = null;
      try { await refresh(next); } catch { /* the next news tries again */ }
      await new Promise((done) => setTimeout(done, 500));
    }
    isBusy = false;
  };
  const listen = () => {
    const source = new EventSource(body.dataset.live);
    const sign = byId("live");
    let timer = 0;
    source.addEventListener("open", () => { clearTimeout(timer); sign.hidden = true; });
    source.addEventListener("error", () => {
      clearTimeout(timer);
      timer = setTimeout(() => { sign.hidden = false; }, 1500);
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
    });
    source.addEventListener("pulse", (event) => {
      const news = JSON.parse(event.data);
      if (news.event === body.dataset.event && news.newest === body.dataset.newest) return;
      body.dataset.event = news.event;
      body.dataset.newest = news.newest;
      enqueue(news);
    });
    addEventListener("pagehide", () => source.close(), { once: true });
  };
  if (body.dataset.live && byId("live")) listen();
  document.addEventListener("htmx:responseError", () => toast("That did not work. Load the page again."));
})();
