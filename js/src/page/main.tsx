import { render } from "preact";
import { App } from "./app";
import { Site } from "./site";
import "./style.css";

const site = new Site();
render(<App site={site} />, document.getElementById("page")!);
void site.start();
