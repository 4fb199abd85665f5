// Copy a table, as it is filtered and sorted, for a spreadsheet, a paper or an issue.

const minus = (text) => text.replaceAll("−", "-");
// two hyphens in a row would become a dash
const inLatex = (text) => text.replace(/[^]/gu, (one) => escapes.latex[one] ?? one).replace(/-(?=-)/g, "-{}");
// numbers alone in brackets cannot become a link
const inMarkdown = (text) => text.replace(/([\\`*_{}\[\]<>#|~$&])/g, "\\$1")
  .replace(/\\\[([−+]?\d+\.\d+, [−+]?\d+\.\d+|–)\\\]/g, "[$1]");
const inCsv = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

const FORMS = {
  CSV: ({ heads, rows }) => [heads, ...rows].map((row) => row.map(minus).map(inCsv).join(",")),
  LaTeX: ({ heads, rows, right }) => [
    `\\begin{tabular}{${right.map((one) => (one ? "r" : "l")).join("")}}`, "\\toprule",
    `${heads.map(inLatex).join(" & ")} \\\\`, "\\midrule",
    ...rows.map((row) => (row.length === 1 && heads.length > 1
      ? `\\multicolumn{${heads.length}}{l}{${inLatex(row[0])}} \\\\` : `${row.map(inLatex).join(" & ")} \\\\`)),
    "\\bottomrule", "\\end{tabular}"],
  Markdown: ({ heads, rows, right }) => [
    `| ${heads.map(inMarkdown).join(" | ")} |`, `|${right.map((one) => (one ? "--:" : ":--")).join("|")}|`,
    ...rows.map((row) => `| ${heads.map((_, index) => inMarkdown(row[index] ?? "")).join(" | ")} |`)],
};

// what a cell says, without what is there for the eye or the mouse
function words(cell) {
  const copy = cell.cloneNode(true);
  for (const part of copy.querySelectorAll(".aside, .dt-column-order")) part.remove();
  return copy.textContent.replace(/\s+/g, " ").trim();
}

function cells(table) {
  const grid = grids.find((one) => one.table().node() === table);
  const rows = grid ? grid.rows({ search: "applied", order: "applied" }).nodes().toArray()
    : [...table.querySelectorAll("tbody:not([hidden]) > tr")];
  const heads = [...table.tHead.rows[0].cells];
  const first = rows.find((row) => row.cells.length === heads.length);
  const right = heads.map((_, index) => Boolean(first) && getComputedStyle(first.cells[index]).textAlign === "right");
  return { heads: heads.map(words), rows: rows.map((row) => [...row.cells].map(words)), right };
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a browser that lets no page of a file write there
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("the browser forbids it");
  }
}

function say(text) {
  const place = document.querySelector(".copied");
  place.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { place.textContent = ""; }, 6000);
}

function copyable() {
  for (const place of document.querySelectorAll(".scroll")) {
    for (const table of place.querySelectorAll("table")) {
      const bar = document.createElement("p");
      bar.className = "copy";
      bar.append("Copy as ");
      const name = table.caption?.textContent.length < 80 ? table.caption.textContent : place.getAttribute("aria-label");
      for (const [form, write] of Object.entries(FORMS)) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = form;
        button.setAttribute("aria-label", `Copy as ${form}: ${name}`);
        button.addEventListener("click", async () => {
          const whole = cells(table);
          try {
            await copy(`${write(whole).join("\n")}\n`);
            say(`${whole.rows.length} rows copied as ${form}.`);
          } catch (error) {
            say(`Not copied: ${error.message}.`);
          }
        });
        bar.append(button, " ");
      }
      // a fragment may hold several tables, each with its own
      (place.querySelectorAll("table").length > 1 ? table : place).before(bar);
    }
  }
}
