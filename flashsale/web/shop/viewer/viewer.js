// The lamp in three dimensions. `build.mjs` makes ../files/shop-viewer.js of it: one file, with the parts of three that are used.
import {
  ACESFilmicToneMapping,
  AdditiveBlending,
  CanvasTexture,
  Color,
  DirectionalLight,
  Mesh,
  MeshBasicMaterial,
  MeshPhysicalMaterial,
  PerspectiveCamera,
  PlaneGeometry,
  PMREMGenerator,
  PointLight,
  Scene,
  ShaderMaterial,
  Sprite,
  SpriteMaterial,
  SRGBColorSpace,
  WebGLRenderer,
} from "three";
import { RoomEnvironment } from "three/examples/jsm/environments/RoomEnvironment.js";
import { GLTFLoader } from "three/examples/jsm/loaders/GLTFLoader.js";

const GLAZES = { moon: 0xeadcc4, clay: 0x8c3a1a, ink: 0x131c33 };
const CENTRE_M = 0.146;
const GLOBE_M = { height: 0.216, radius: 0.084 };
const DISTANCE_M = 0.83;
const STEP = Math.PI / 8;
const TILT_MAX = 0.45;
const EASE = 0.16;
const PIXELS_MAX = 2; // of the device for one of the page
const SMOOTH_MS = 40; // a device that draws slower than this gets single pictures, not a motion

// Loads the model from `address` into `canvas`: { setGlaze(name), turn(steps) }. Rejects where the device cannot draw it.
export async function load(canvas, address, glaze) {
  const renderer = new WebGLRenderer({ canvas, antialias: true, alpha: true });
  renderer.toneMapping = ACESFilmicToneMapping;
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`The model was answered ${answer.status}.`);
  const { scene: lamp } = await new GLTFLoader().parseAsync(await answer.arrayBuffer(), "");
  const view = new View(canvas, renderer, lamp);
  view.setGlaze(glaze);
  view.measure();
  return view;
}

class View {
  #canvas;
  #renderer;
  #camera = new PerspectiveCamera(28, 1, 0.1, 5);
  #scene = new Scene();
  #lamp;
  #glaze;
  #turned = 3 * STEP;
  #tilt = 0.12;
  #drawnTurn = 0; // it turns into its place at first
  #drawnTilt = 0.12;
  #frame = 0;
  #pointer = null;
  #ease = EASE;
  #pixelsMax = PIXELS_MAX;

  constructor(canvas, renderer, lamp) {
    this.#canvas = canvas;
    this.#renderer = renderer;
    this.#lamp = lamp;
    this.#glaze = this.#dress();
    this.#light();
    lamp.position.y = -CENTRE_M;
    this.#scene.add(lamp);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) this.#ease = 1;
    canvas.addEventListener("pointerdown", (event) => this.#grab(event));
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { this.#pointer = null; });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.#resize();
  }

  setGlaze(name) {
    this.#glaze.color = new Color(GLAZES[name] ?? GLAZES.moon);
    this.#draw();
  }

  // Without a graphics card every picture is work: then it turns in one step, and coarser.
  measure() {
    const gl = this.#renderer.getContext();
    const drawn = () => {
      this.#renderer.render(this.#scene, this.#camera);
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)); // returns when it is drawn
      return performance.now();
    };
    const began = drawn(); // the first takes longer: programs are made
    if (drawn() - began < SMOOTH_MS) return;
    this.#ease = 1;
    this.#pixelsMax = 1;
    this.#resize();
  }

  turn(steps) {
    this.#turned += steps * STEP;
    this.#draw();
  }

  // The glaze is clay under a clear coat, and the glass shines; the brass is as the file has it.
  #dress() {
    const glaze = new MeshPhysicalMaterial({ roughness: 0.5, clearcoat: 0.55, clearcoatRoughness: 0.25 });
    this.#lamp.traverse((part) => {
      if (part.material?.name === "glaze") part.material = glaze;
      if (part.material?.name === "glass") part.material = opal();
    });
    return glaze;
  }

  #light() {
    const room = new PMREMGenerator(this.#renderer);
    this.#scene.environment = room.fromScene(new RoomEnvironment(), 0.04).texture;
    this.#scene.environmentIntensity = 0.38;
    room.dispose();
    const sky = new DirectionalLight(0xfff1e0, 2.1);
    sky.position.set(-0.8, 0.9, 1.6);
    const bulb = new PointLight(0xffc06a, 0.012);
    bulb.position.y = GLOBE_M.height - CENTRE_M;
    this.#scene.add(sky, bulb, glow(), shadow());
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!width || !height) return; // it is hidden
    this.#renderer.setPixelRatio(Math.min(this.#pixelsMax, devicePixelRatio));
    this.#renderer.setSize(width, height, false);
    this.#camera.aspect = width / height;
    this.#camera.updateProjectionMatrix();
    this.#draw();
  }

  #grab(event) {
    this.#pointer = { id: event.pointerId, x: event.clientX, y: event.clientY };
    this.#canvas.setPointerCapture(event.pointerId);
  }

  #drag(event) {
    if (this.#pointer?.id !== event.pointerId) return;
    this.#turned += ((event.clientX - this.#pointer.x) / this.#canvas.clientWidth) * 2 * Math.PI;
    this.#tiltBy((event.clientY - this.#pointer.y) / this.#canvas.clientHeight);
    Object.assign(this.#pointer, { x: event.clientX, y: event.clientY });
    this.#draw();
  }

  #key(event) {
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const tilt = { ArrowUp: -0.1, ArrowDown: 0.1 }[event.key];
    if (turn === undefined && tilt === undefined) return;
    event.preventDefault();
    if (turn) this.turn(turn);
    if (tilt) this.#tiltBy(tilt);
    this.#draw();
  }

  #tiltBy(by) {
    this.#tilt = Math.max(-0.05, Math.min(TILT_MAX, this.#tilt + by));
  }

  // Draws until everything is where it should be, and then not at all.
  #draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#drawnTurn += (this.#turned - this.#drawnTurn) * this.#ease;
      this.#drawnTilt += (this.#tilt - this.#drawnTilt) * this.#ease;
      this.#lamp.rotation.y = this.#drawnTurn;
      this.#camera.position.set(0, Math.sin(this.#drawnTilt) * DISTANCE_M, Math.cos(this.#drawnTilt) * DISTANCE_M);
      this.#camera.lookAt(0, 0, 0);
      this.#renderer.render(this.#scene, this.#camera);
      if (Math.abs(this.#turned - this.#drawnTurn) + Math.abs(this.#tilt - this.#drawnTilt) > 0.001) this.#draw();
    });
  }
}

// Glass that shines by itself: white in the middle, amber towards the rim.
function opal() {
  return new ShaderMaterial({
    vertexShader: `
      varying vec3 outward;
      varying vec3 seen;
      void main() {
        vec4 at = modelViewMatrix * vec4(position, 1.0);
        outward = normalMatrix * normal;
        seen = -at.xyz;
        gl_Position = projectionMatrix * at;
      }`,
    fragmentShader: `
      varying vec3 outward;
      varying vec3 seen;
      void main() {
        float facing = clamp(dot(normalize(outward), normalize(seen)), 0.0, 1.0);
        vec3 colour = mix(vec3(0.945, 0.722, 0.424), vec3(1.0, 0.925, 0.78), smoothstep(0.0, 0.62, facing));
        gl_FragColor = vec4(mix(colour, vec3(1.0, 0.985, 0.95), smoothstep(0.6, 1.0, facing)), 1.0);
      }`,
  });
}

// What the light does to the air around the globe.
function glow() {
  const material = new SpriteMaterial({ map: blot(["#ffe2a6cc", "#ffd08a59", "#ffbf6600"]), blending: AdditiveBlending, depthWrite: false, toneMapped: false });
  const air = new Sprite(material);
  air.position.y = GLOBE_M.height - CENTRE_M;
  air.scale.setScalar(GLOBE_M.radius * 5);
  air.renderOrder = -1;
  return air;
}

// Where the foot stands.
function shadow() {
  const material = new MeshBasicMaterial({ map: blot(["#1b120a99", "#1b120a4d", "#1b120a00"]), transparent: true, depthWrite: false, toneMapped: false });
  const table = new Mesh(new PlaneGeometry(0.24, 0.24), material);
  table.rotation.x = -Math.PI / 2;
  table.position.y = -CENTRE_M - 0.001;
  return table;
}

// A round spot that fades outwards.
function blot(colours) {
  const size = 128;
  const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  const pen = canvas.getContext("2d");
  const fade = pen.createRadialGradient(size / 2, size / 2, 0, size / 2, size / 2, size / 2);
  colours.forEach((colour, at) => fade.addColorStop(at / (colours.length - 1), colour));
  pen.fillStyle = fade;
  pen.fillRect(0, 0, size, size);
  const texture = new CanvasTexture(canvas);
  texture.colorSpace = SRGBColorSpace;
  return texture;
}
