// A click on a heading sorts its table by that column, numbers by value; another click reverses the order.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)], numbers = [parseFloat(x), parseFloat(y)];
      return numbers.some(Number.isNaN) ? x.localeCompare(y) : numbers[0] - numbers[1];
    });
    body.append(...(down ? rows.reverse() : rows));
  });
}
