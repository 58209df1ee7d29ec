// How many where: a table whose cells are the stronger in colour the more there are.

import { h, number, shortened, show } from "./dom.js";

const FAINTEST = 14;
const FEW = 12;
const LONGEST = 21;
const LONGEST_ACROSS = 13;
const KEYS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export class Heat {
  // `down` and `across` say what the rows and the columns are.
  constructor({ title, down, across, kind, nothing }) {
    Object.assign(this, { title, down, across });
    this.said = h("p", { class: "said faint", "aria-live": "polite" });
    this.table = h("table", { "aria-label": title });
    this.note = h("p", { class: "note faint" });
    this.nothing = h("p", { class: "bare" }, nothing);
    this.frame = h("div", { class: "frame", tabindex: "0", role: "group", "aria-label": `${title}, cell by cell with the arrow keys` }, this.table, this.note, this.nothing);
    this.element = h("section", { class: `panel heat ${kind}` }, h("header", {}, h("h2", {}, title), h("span", { class: "faint" }, `${down} down, ${across} across`)), this.said, this.frame);
    this.#listen();
    this.#say(null);
  }

  // Names of the `rows` and of the `columns`, for each row its `cells`, and a `note` on what is left out.
  update(content) {
    const drawn = JSON.stringify(content);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.content = content;
    const { rows, columns, cells, note } = content;
    const most = Math.max(1, ...cells.flat().map((cell) => cell?.detected ?? 0));
    this.table.hidden = this.note.hidden = !rows.length;
    this.nothing.hidden = rows.length > 0;
    this.table.style.setProperty("--columns", columns.length);
    this.table.classList.toggle("dense", columns.length > FEW);
    show(
      this.table,
      h("thead", {}, h("tr", {}, h("td", {}), columns.map(({ name, title }) => h("th", { scope: "col", title: title ?? name }, h("bdi", {}, shortened(name, LONGEST_ACROSS)))))),
      h("tbody", {}, rows.map(({ name }, row) => h("tr", {}, h("th", { scope: "row", title: name }, h("bdi", {}, shortened(name, LONGEST))), cells[row].map((cell) => drawnCell(cell, most))))),
    );
    show(this.note, note);
    this.#point();
  }

  #listen() {
    this.table.addEventListener("pointerover", (event) => {
      const cell = event.target.closest("tbody td");
      this.place = cell ? [cell.parentNode.sectionRowIndex, cell.cellIndex - 1] : null;
      this.#point();
    });
    const leave = () => {
      this.place = null;
      this.#point();
    };
    this.table.addEventListener("pointerleave", leave);
    this.frame.addEventListener("blur", leave);
    this.frame.addEventListener("keydown", (event) => {
      if (!(event.key in KEYS) || !this.content?.rows.length) return;
      event.preventDefault();
      const [row, column] = this.place ?? [0, -1];
      const [down, across] = this.place ? KEYS[event.key] : [0, 1];
      this.place = [within(row + down, this.content.rows), within(column + across, this.content.columns)];
      this.#point()?.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
  }

  // The cell that is pointed at is told above, where there is room for it.
  #point() {
    this.table.querySelector(".at")?.classList.remove("at");
    const cell = this.place && this.table.tBodies[0]?.rows[this.place[0]]?.cells[this.place[1] + 1];
    cell?.classList.add("at");
    this.#say(cell ? this.place : null);
    return cell;
  }

  #say(place) {
    if (!place) {
      show(this.said, "Stronger colour: more conflicts. Underlined: some escaped.");
      return;
    }
    const { rows, columns, cells } = this.content;
    const [row, column] = place;
    show(this.said, h("bdi", {}, rows[row].name), " × ", h("bdi", {}, columns[column].title ?? columns[column].name), `: ${told(cells[row][column])}`);
  }
}

const within = (index, list) => Math.min(Math.max(index, 0), list.length - 1);

function drawnCell(cell, most) {
  if (!cell) return h("td", {}, h("span", { class: "unseen" }, "none"));
  const share = FAINTEST + (100 - FAINTEST) * Math.sqrt(cell.detected / most);
  return h(
    "td",
    { class: cell.escaped ? "hot escaping" : "hot", style: `--share:${share.toFixed(1)}%`, title: told(cell) },
    h("span", { "aria-hidden": "true" }, short(cell.detected)),
    h("span", { class: "unseen" }, told(cell)),
  );
}

// A cell has room for four signs at most.
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 2 });
const short = (count) => (count < 1000 ? number(count) : compact.format(count));
const told = (cell) => (cell ? `${number(cell.detected)} detected, ${number(cell.escaped)} escaped, ${number(cell.needless)} needless` : "none");
