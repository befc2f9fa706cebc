//! A model's configuration: its layers, and what each is applied to.

use serde_json::Value;

use super::KerasError;

/// The most layers, and the most uses of all layers.
const LAYERS_MAX: usize = 65_536;

/// A layer and its settings.
#[derive(Clone, Debug)]
pub(super) struct Layer<'a> {
    pub(super) name: String,
    pub(super) class: String,
    pub(super) config: &'a Value,
    /// Of a functional model: what each use is applied to.
    uses: Option<&'a Value>,
}

/// A result: of a layer, at one of its uses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Source {
    pub(super) layer: String,
    pub(super) node: usize,
}

/// Whether the layers of a class keep their weights in a cell.
pub(super) fn is_cell(class: &str) -> bool {
    matches!(class, "LSTM" | "GRU" | "SimpleRNN")
}

/// The layers of a model, in their order.
pub(super) fn layers(config: &Value) -> Result<Vec<Layer<'_>>, KerasError> {
    let class = config["class_name"].as_str().unwrap_or_default();
    if !matches!(class, "Sequential" | "Functional" | "Model") {
        let problem = format!("it is of the class {class:?}; there are Sequential and Functional");
        return Err(KerasError::file(problem));
    }
    // Old sequential models are a list of layers.
    let inner = &config["config"];
    let list = inner.as_array().or_else(|| inner["layers"].as_array());
    let list = list.ok_or_else(|| KerasError::file("its configuration has no layers"))?;
    if list.len() > LAYERS_MAX {
        return Err(KerasError::file(format!("it has over {LAYERS_MAX} layers")));
    }
    let layers: Vec<Layer<'_>> = list.iter().map(layer).collect::<Result<_, _>>()?;
    let mut names: Vec<&str> = layers.iter().map(|layer| &*layer.name).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(KerasError::file(format!("two layers are called {:?}", pair[0]))),
        None => Ok(layers),
    }
}

fn layer(value: &Value) -> Result<Layer<'_>, KerasError> {
    let config = &value["config"];
    let class = value["class_name"].as_str();
    let name = config["name"].as_str().or_else(|| value["name"].as_str());
    let (Some(class), Some(name)) = (class, name) else {
        return Err(KerasError::file("a layer has no class or no name"));
    };
    let layer = Layer {
        name: name.to_owned(),
        class: class.to_owned(),
        config,
        uses: value.get("inbound_nodes"),
    };
    // Classes of a user's own may be called as Keras's.
    match value["registered_name"].as_str() {
        Some(registered) if registered.contains('>') => {
            Err(layer.error(format!("it is of a class of its own, {registered:?}")))
        }
        _ => Ok(layer),
    }
}

impl Layer<'_> {
    pub(super) fn error(&self, problem: impl Into<String>) -> KerasError {
        let (layer, class) = (self.name.clone(), self.class.clone());
        KerasError::Layer { layer, class, problem: problem.into() }
    }

    /// A setting that is not supported as it is.
    pub(super) fn refused(&self, setting: &str) -> KerasError {
        let value: String = self.config[setting].to_string().chars().take(80).collect();
        self.error(format!("{setting} = {value} is not supported"))
    }

    /// A switch; what is not written down is off.
    pub(super) fn flag(&self, setting: &str, default: bool) -> Result<bool, KerasError> {
        match &self.config[setting] {
            Value::Null => Ok(default),
            Value::Bool(value) => Ok(*value),
            _ => Err(self.refused(setting)),
        }
    }

    /// Refuses settings that must be off.
    pub(super) fn off(&self, settings: &[&str]) -> Result<(), KerasError> {
        match settings.iter().find(|setting| self.flag(setting, false) != Ok(false)) {
            Some(setting) => Err(self.refused(setting)),
            None => Ok(()),
        }
    }

    pub(super) fn float(&self, setting: &str, default: f64) -> Result<f64, KerasError> {
        match &self.config[setting] {
            Value::Null => Ok(default),
            // What old versions write for a NumPy scalar.
            Value::Object(object) if object.get("value").is_some_and(Value::is_number) => {
                object["value"].as_f64().ok_or_else(|| self.refused(setting))
            }
            value => value.as_f64().ok_or_else(|| self.refused(setting)),
        }
    }

    pub(super) fn text<'v>(
        &'v self,
        setting: &str,
        default: &'v str,
    ) -> Result<&'v str, KerasError> {
        match &self.config[setting] {
            Value::Null => Ok(default),
            value => value.as_str().ok_or_else(|| self.refused(setting)),
        }
    }

    /// One number for each of `count` axes; one number is for all.
    pub(super) fn sizes(&self, setting: &str, count: usize) -> Result<Vec<i64>, KerasError> {
        let sizes = match &self.config[setting] {
            Value::Null => vec![1; count],
            Value::Array(values) => values.iter().filter_map(Value::as_i64).collect(),
            value => value.as_i64().map_or(Vec::new(), |value| vec![value; count]),
        };
        match sizes.len() == count && sizes.iter().all(|size| (1..1 << 24).contains(size)) {
            true => Ok(sizes),
            false => Err(self.refused(setting)),
        }
    }

    /// What each use is applied to.
    pub(super) fn sources(&self) -> Result<Vec<Vec<Source>>, KerasError> {
        let uses = self.uses.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let of = |used: &Value| {
            let mut sources = Vec::new();
            match used {
                Value::Array(_) => self.old_sources(used, &mut sources)?,
                used => self.new_sources(&used["args"], 0, &mut sources)?,
            }
            let kwargs = used["kwargs"].as_object();
            let extra = kwargs.into_iter().flatten().find(|(name, value)| {
                let harmless = matches!(&***name, "mask" | "training" | "initial_state");
                !(value.is_null() || harmless && **value == Value::Bool(false))
            });
            match extra {
                Some((name, _)) => {
                    Err(self.error(format!("it is called with {name}, which is not supported")))
                }
                None => Ok(sources),
            }
        };
        uses.iter().map(of).collect()
    }

    /// Keras 2: a list of `[layer, node, tensor, kwargs]`.
    fn old_sources(&self, used: &Value, into: &mut Vec<Source>) -> Result<(), KerasError> {
        // A layer with one argument may have it without a list around.
        let list = match used.as_array() {
            Some(list) if list.first().is_some_and(Value::is_string) => std::slice::from_ref(used),
            list => list.map_or(&[][..], Vec::as_slice),
        };
        for item in list {
            let kwargs = item.get(3).and_then(Value::as_object);
            if kwargs.into_iter().flatten().any(|(_, value)| !value.is_null()) {
                return Err(
                    self.error("it is called with more than tensors, which is not supported")
                );
            }
            into.push(self.source(item)?);
        }
        Ok(())
    }

    /// Keras 3: tensors within the arguments, alone or in lists.
    fn new_sources(
        &self,
        args: &Value,
        depth: usize,
        into: &mut Vec<Source>,
    ) -> Result<(), KerasError> {
        const DEPTH_MAX: usize = 4;
        match args {
            Value::Array(items) if depth < DEPTH_MAX => {
                items.iter().try_for_each(|item| self.new_sources(item, depth + 1, into))
            }
            Value::Object(_) if args["class_name"] == "__keras_tensor__" => {
                into.push(self.source(&args["config"]["keras_history"])?);
                Ok(())
            }
            _ => Err(self.error("it is called with something else than tensors")),
        }
    }

    fn source(&self, history: &Value) -> Result<Source, KerasError> {
        source(history)
            .ok_or_else(|| self.error("it is applied to something that is no layer's first result"))
    }
}

/// `[layer, node, 0]`.
fn source(history: &Value) -> Option<Source> {
    let node = usize::try_from(history.get(1)?.as_u64()?).ok()?;
    let is_first = history.get(2)?.as_u64()? == 0;
    is_first.then_some(Source { layer: history.get(0)?.as_str()?.to_owned(), node })
}

/// The inputs or outputs of a functional model: one `[layer, node, tensor]`, or a list of such.
pub(super) fn ends(config: &Value, which: &str) -> Result<Vec<Source>, KerasError> {
    let value = &config["config"][which];
    let wrong = || KerasError::file(format!("its {which} cannot be read: {value:.100}"));
    let list = match value {
        Value::Array(list) if list.first().is_some_and(Value::is_string) => {
            std::slice::from_ref(value)
        }
        Value::Array(list) => list.as_slice(),
        _ => return Err(wrong()),
    };
    match list.iter().map(source).collect::<Option<Vec<Source>>>() {
        Some(ends) if !ends.is_empty() => Ok(ends),
        _ => Err(wrong()),
    }
}
