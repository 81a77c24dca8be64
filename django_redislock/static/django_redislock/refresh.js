// Keeps the pages of held locks fresh: asks for the page anew while it is looked at, puts the new rows in the place of
// the old ones, and counts on in between. Without it the pages show what was so when they were loaded.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
    const live = document.getElementById("redislock-live");
    if (!live) {
        return;
    }
    const words = live.dataset;
    const status = live.querySelector("[data-redislock-status]");
    const updated = live.querySelector("[data-redislock-updated]");
    const button = live.querySelector("[data-redislock-pause]");
    const units = words.units.split("|").map((unit) => unit.split("=")).map(([size, text]) => [Number(size), text]);
    let paused = false;
    let loadedAt = performance.now();
    let askedAt = loadedAt;
    let isAsking = false;
    let isPressed = false;

    function spell(seconds) {
        const whole = Math.max(0, Math.floor(seconds));
        const [size, text] = units.find(([unit]) => whole >= 2 * unit || unit === 1);
        return text.replace("%s", Math.floor(whole / size));
    }

    function say(text) {
        if (status.textContent !== text) { // what is said again is read out again
            status.textContent = text;
        }
    }

    function count() {
        const passed = (performance.now() - loadedAt) / 1000;
        for (const element of live.querySelectorAll("[data-redislock-age]")) {
            element.textContent = spell(Number(element.dataset.redislockAge) + passed);
        }
        for (const meter of live.querySelectorAll("[data-redislock-left]")) {
            const left = Math.max(0, Number(meter.dataset.redislockLeft) - passed);
            meter.value = left;
            meter.textContent = spell(left);
            meter.parentElement.querySelector(".redislock-left").textContent = spell(left);
        }
    }

    // Selected rows

    const boxes = (root) => Array.from(root.querySelectorAll("input.action-select"));

    function showSelection() {
        const all = boxes(live);
        for (const box of all) {
            box.closest("tr").classList.toggle("selected", box.checked);
        }
        for (const counter of live.querySelectorAll(".action-counter")) {
            if (typeof interpolate === "function") { // the admin's own words
                const numbers = {sel: all.filter((box) => box.checked).length, cnt: counter.dataset.actionsIcnt};
                counter.textContent = interpolate(
                    ngettext("%(sel)s of %(cnt)s selected", "%(sel)s of %(cnt)s selected", numbers.sel), numbers, true);
            }
        }
    }

    live.addEventListener("change", (event) => {
        if (event.target.id === "action-toggle") {
            for (const box of boxes(live)) {
                box.checked = event.target.checked;
            }
            showSelection();
        } else if (event.target.matches("input.action-select")) {
            showSelection();
        }
    });

    function keepBoxes(fresh) {
        const known = new Map(boxes(live).map((box) => [box.value, box]));
        for (const box of boxes(fresh)) {
            if (known.has(box.value)) {
                box.replaceWith(known.get(box.value));
            }
        }
        const toggle = live.querySelector("#action-toggle");
        const freshToggle = fresh.querySelector("#action-toggle");
        if (toggle && freshToggle) {
            freshToggle.replaceWith(toggle);
        }
    }

    // The new page in the place of the old one

    function replace(selector, fresh) {
        const old = document.querySelector(selector);
        const other = fresh.querySelector(selector);
        if (old && other) {
            old.replaceChildren(...other.childNodes);
        }
        return Boolean(old && other);
    }

    function focused() {
        const element = document.activeElement;
        if (!element || !live.contains(element)) {
            return () => null;
        }
        const href = element.getAttribute("href");
        const links = () => Array.from(live.querySelectorAll("a"));
        return () => (live.contains(element) ? element : href && links().find((link) => link.getAttribute("href") === href));
    }

    function show(fresh) {
        const freshLive = fresh.getElementById("redislock-live");
        const refocus = focused();
        if (!replace("[data-redislock-content]", fresh)) {
            replace("[data-redislock-faults]", fresh);
            replace("[data-redislock-pages]", fresh);
            showTable(freshLive);
            showSelection();
            showFilters(fresh);
        }
        refocus()?.focus({preventScroll: true});
        loadedAt = performance.now();
        say(freshLive.dataset.summary);
        updated.hidden = false;
        const language = document.documentElement.lang || undefined;
        updated.textContent = words.updated.replace("%s", new Date().toLocaleTimeString(language));
    }

    function showTable(freshLive) {
        const table = live.querySelector("#result_list");
        const freshTable = freshLive.querySelector("#result_list");
        if (table && freshTable) {
            for (const counter of live.querySelectorAll(".action-counter")) {
                const other = freshLive.querySelector(".action-counter");
                counter.dataset.actionsIcnt = other ? other.dataset.actionsIcnt : "0";
            }
            keepBoxes(freshTable);
            table.replaceChildren(...freshTable.childNodes);
        } else if (table || freshTable) { // the first row has come, or the last one gone
            const isBar = (child) => child.matches(".redislock-bar");
            const bar = Array.from(live.children).find(isBar);
            live.replaceChildren(bar, ...Array.from(freshLive.children).filter((child) => !isBar(child)));
            if (freshTable && typeof window.Actions === "function") {
                window.Actions(live.querySelectorAll("tr input.action-select"));
            }
        }
    }

    function showFilters(fresh) {
        const choices = (root) => Array.from(root.querySelectorAll("[data-redislock-filters] ul"));
        const others = choices(fresh);
        const lists = choices(document);
        for (const [number, list] of lists.length === others.length ? lists.entries() : []) {
            if (!list.contains(document.activeElement)) { // somebody is about to choose
                list.replaceChildren(...others[number].childNodes);
            }
        }
    }

    async function refresh() {
        isAsking = true;
        askedAt = performance.now();
        try {
            const answer = await fetch(location.href, {
                redirect: "manual", headers: {Accept: "text/html"}, signal: AbortSignal.timeout(30000),
            });
            if (answer.type === "opaqueredirect") {
                say(words.gone);
                return;
            }
            const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
            if (!answer.ok || !fresh.getElementById("redislock-live")) {
                say(words.failed);
            } else if (!paused && !isPressed) { // not while the answer was on its way either
                show(fresh);
            }
        } catch (error) {
            say(words.failed);
        } finally {
            isAsking = false;
        }
    }

    // A click is on what was pressed: in the place of another row it would be lost.
    document.addEventListener("pointerdown", () => {
        isPressed = true;
    });
    for (const end of ["pointerup", "pointercancel"]) {
        document.addEventListener(end, () => {
            isPressed = false;
        });
    }

    function tick() {
        if (document.visibilityState !== "visible" || paused) {
            return;
        }
        count();
        if (!isAsking && performance.now() - askedAt >= Number(words.every) * 1000) {
            refresh();
        }
    }

    button.textContent = button.dataset.pause;
    button.hidden = false;
    button.addEventListener("click", () => {
        paused = !paused;
        button.textContent = paused ? button.dataset.resume : button.dataset.pause;
        if (!paused) {
            refresh();
        }
    });
    document.addEventListener("visibilitychange", tick);
    say(words.summary);
    setInterval(tick, 1000);
});
