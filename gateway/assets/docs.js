"use strict";
(async () => {
  const root = document.getElementById("api");
  const make = (tag, text, kind) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (kind) node.className = kind;
    return node;
  };
  const answer = await fetch(root.dataset.url);
  const api = await answer.json();
  const resolve = (schema) => (schema && schema.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema);
  const nameOf = (schema) => {
    if (!schema) return "";
    if (schema.$ref) return schema.$ref.split("/").pop();
    if (schema.anyOf) return schema.anyOf.map(nameOf).join(" | ");
    if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
    if (schema.const) return JSON.stringify(schema.const);
    if (schema.type === "array") return nameOf(schema.items) + "[]";
    return schema.type || "any";
  };
  const table = (heads, rows) => {
    const made = make("table");
    const head = made.appendChild(make("tr"));
    heads.forEach((text) => head.appendChild(make("th", text)));
    rows.forEach((cells) => {
      const row = made.appendChild(make("tr"));
      cells.forEach((text, place) => row.appendChild(make("td")).appendChild(make(place ? "span" : "code", text)));
    });
    return made;
  };
  const fields = (schema) => {
    const found = resolve(schema);
    const required = new Set(found.required || []);
    return table(["field", "type", ""], Object.entries(found.properties || {}).map(([name, of]) => [
      name, nameOf(of) + (required.has(name) ? ", required" : ""), of.description || (resolve(of) || {}).description || "",
    ]));
  };
  const describe = (path, method, operation) => {
    const made = make("details");
    const head = made.appendChild(make("summary"));
    head.appendChild(make("code", method.toUpperCase(), method));
    head.appendChild(make("code", path));
    head.appendChild(document.createTextNode(operation.summary));
    if (operation.description) made.appendChild(make("p", operation.description));
    if (operation.parameters.length) {
      made.appendChild(make("h4", "Parameters"));
      made.appendChild(table(["name", "in", ""], operation.parameters.map((given) => [
        given.name, given.in + (given.required ? ", required" : ""), given.description || nameOf(given.schema),
      ])));
    }
    if (operation.requestBody) {
      made.appendChild(make("h4", "Body"));
      made.appendChild(fields(operation.requestBody.content["application/json"].schema));
    }
    made.appendChild(make("h4", "Answers"));
    made.appendChild(table(["status", "body", ""], Object.entries(operation.responses).map(([status, given]) => [
      status, Object.values(given.content || {}).map((content) => nameOf(content.schema)).join(), given.description,
    ])));
    return made;
  };
  root.replaceChildren(make("p", api.info.description));
  api.tags.forEach(({ name }) => {
    root.appendChild(make("h2", name));
    Object.entries(api.paths).forEach(([path, methods]) => Object.entries(methods).forEach(([method, operation]) => {
      if (operation.tags.includes(name)) root.appendChild(describe(path, method, operation));
    }));
  });
  root.appendChild(make("h2", "schemas"));
  Object.entries(api.components.schemas).forEach(([name, schema]) => {
    const made = root.appendChild(make("details"));
    made.appendChild(make("summary")).appendChild(make("code", name));
    if (schema.description) made.appendChild(make("p", schema.description));
    made.appendChild(schema.properties ? fields(schema) : make("p", nameOf(schema)));
  });
})();
