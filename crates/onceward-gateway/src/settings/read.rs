//! Merges file, variables and flags, in this order, each over the one before.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Place, Problem, SettingsError};
use super::keys::{self, Refusal};
use super::value::{Bad, Value};
use super::{Flags, Looked, Read, Route, Settings, check, unknown};

/// Used by the command line, where it is no setting.
const NOT_OURS: &str = "ONCEWARD_ADMIN_TOKEN";

/// Merges the text of a file called `name` with variables and flags, and checks the whole.
pub(super) fn merge(
    text: Option<&str>,
    name: Option<&str>,
    env: impl Iterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<Read, SettingsError> {
    let Looked { settings, problems, warnings } = look(text, name, env, flags);
    if problems.is_empty() { Ok(Read { settings, warnings }) } else { Err(SettingsError::Refused(problems)) }
}

/// Like [`merge`], and gives what could be read beside what is wrong with the rest.
pub(super) fn look(
    text: Option<&str>,
    name: Option<&str>,
    env: impl Iterator<Item = (String, String)>,
    flags: &Flags,
) -> Looked {
    let text = text.unwrap_or_default();
    let mut merging = Merging { text, name, ..Merging::default() };
    let file = match DeTable::parse(text) {
        Ok(file) => file,
        Err(error) => {
            let problems = vec![merging.not_toml(&error)];
            return Looked { settings: merging.settings, problems, warnings: merging.warnings };
        }
    };
    merging.file(file.get_ref());
    merging.variables(env);
    merging.flags(flags);
    // Routes come last because they stand on the policy that the other sources have a say in.
    merging.routes(file.get_ref());
    merging.finish()
}

#[derive(Default)]
struct Merging<'a> {
    text: &'a str,
    name: Option<&'a str>,
    settings: Settings,
    places: BTreeMap<String, Place>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Merging<'_> {
    fn file(&mut self, top: &DeTable<'_>) {
        for (key, value) in top {
            let name: &str = key.get_ref();
            match value.get_ref() {
                _ if name == "route" => {}
                DeValue::Table(table) if keys::TABLES.contains(&name) => {
                    for (key, value) in table {
                        let path = format!("{name}.{}", key.get_ref());
                        self.set(&path, key, value);
                    }
                }
                found if keys::TABLES.contains(&name) => {
                    let says = format!("found {}; accepted: a table; example: [{name}]", Value::of(found));
                    self.problem(self.line(value), name, says);
                }
                _ => self.set(name, key, value),
            }
        }
    }

    fn set(&mut self, path: &str, key: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'_>>) {
        let found = Value::of(value.get_ref());
        // A dot in a quoted key is no way into a table.
        let dotted = key.get_ref().as_ref().contains('.');
        let outcome = if dotted { None } else { keys::set(&mut self.settings, path, &found) };
        self.judge(path, key, value, outcome);
    }

    /// Records what became of a key of the file.
    fn judge(
        &mut self,
        path: &str,
        key: &Spanned<impl AsRef<str>>,
        value: &Spanned<DeValue<'_>>,
        outcome: Option<Result<(), Refusal>>,
    ) {
        let name = key.get_ref().as_ref();
        match outcome {
            Some(Ok(())) => {
                self.places.insert(path.into(), self.line(key));
            }
            Some(Err(refusal)) => {
                let example = format!("{name} = {}", refusal.example);
                let says = refused(&Value::of(value.get_ref()), &refusal, &example);
                self.problem(self.line(value), path, says);
            }
            None => {
                let table = path.strip_suffix(name).unwrap_or(path).trim_end_matches('.');
                let nearest = unknown::nearest_key(table, name);
                let path = match name.contains('.') {
                    true => path.replace(name, &format!("{name:?}")),
                    false => path.to_owned(),
                };
                self.problem(self.line(key), &path, format!("unknown key; nearest valid key: {nearest}"));
            }
        }
    }

    fn variables(&mut self, env: impl Iterator<Item = (String, String)>) {
        let known: BTreeMap<_, _> = keys::paths().into_iter().map(|it| (keys::variable(&it), it)).collect();
        let ours = env.filter(|(name, _)| name.starts_with(keys::VARIABLE_PREFIX) && name != NOT_OURS);
        for (name, text) in ours.collect::<BTreeMap<_, _>>() {
            match known.get(&name) {
                Some(path) => self.untyped(path, Place::Variable(name.clone()), text, &format!("{name}=")),
                None => self.warnings.push(unknown_variable(&name)),
            }
        }
    }

    fn flags(&mut self, flags: &Flags) {
        let all = [
            ("--upstream", "upstream.urls", &flags.upstream),
            ("--listen", "listen", &flags.listen),
            ("--admin", "admin.listen", &flags.admin),
            ("--store", "store", &flags.store),
            ("--log", "log", &flags.log),
        ];
        for (flag, path, text) in all {
            if let Some(text) = text {
                self.untyped(path, Place::Flag(flag), text.clone(), &format!("{flag} "));
            }
        }
    }

    fn untyped(&mut self, path: &str, place: Place, text: String, lead: &str) {
        let value = Value::Untyped(text);
        match keys::set(&mut self.settings, path, &value).expect("the path comes from the table of keys") {
            Ok(()) => {
                self.places.insert(path.into(), place);
            }
            Err(refusal) => {
                let example = refusal.example.replace(['[', ']', '"'], "").replace(", ", ",");
                self.problem(place, path, refused(&value, &refusal, &format!("{lead}{example}")));
            }
        }
    }

    fn routes(&mut self, top: &DeTable<'_>) {
        let Some(value) = top.get("route") else { return };
        let tables = value.get_ref().as_array().map(|all| all.iter().filter_map(table).collect::<Vec<_>>());
        let all = value.get_ref().as_array().map_or(0, |all| all.len());
        let Some(tables) = tables.filter(|tables| tables.len() == all) else {
            let says = format!("found {}; accepted: tables; example: [[route]]", Value::of(value.get_ref()));
            return self.problem(self.line(value), "route", says);
        };
        for (at, (place, table)) in tables.into_iter().enumerate() {
            self.route(&format!("route[{at}]"), self.line_at(place), table);
        }
    }

    fn route(&mut self, path: &str, place: Place, table: &DeTable<'_>) {
        let mut route = Route::under(self.settings.policy.clone());
        for (key, value) in table {
            let found = Value::of(value.get_ref());
            let outcome = keys::set_route(&mut route, key.get_ref(), &found);
            self.judge(&format!("{path}.{}", key.get_ref()), key, value, outcome);
        }
        if !table.contains_key("path") {
            self.problem(place.clone(), path, "no path; example: path = \"/payments\"".into());
        }
        if route.name.is_empty() {
            route.name = route.path.as_str().into();
        }
        self.places.insert(path.into(), place);
        self.settings.routes.push(route);
    }

    fn finish(mut self) -> Looked {
        if self.problems.is_empty() {
            self.problems = check::problems(&self.settings, &self.places);
        }
        if self.problems.is_empty() {
            self.warnings.extend(check::warnings(&self.settings, &self.places));
        }
        self.problems.sort();
        Looked { settings: self.settings, problems: self.problems, warnings: self.warnings }
    }

    fn problem(&mut self, place: Place, key: &str, says: String) {
        self.problems.push(Problem { place, key: key.into(), says });
    }

    fn not_toml(&self, error: &toml::de::Error) -> Problem {
        let place = self.line_at(error.span().map_or(0, |span| span.start));
        let says = format!("not valid TOML: {}", error.message());
        Problem { place, key: String::new(), says }
    }

    fn line<T>(&self, spanned: &Spanned<T>) -> Place {
        self.line_at(spanned.span().start)
    }

    fn line_at(&self, offset: usize) -> Place {
        let before = self.text.as_bytes().iter().take(offset);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Place::Line { file: self.name.map(Into::into), line }
    }
}

fn table<'a, 'i>(value: &'a Spanned<DeValue<'i>>) -> Option<(usize, &'a DeTable<'i>)> {
    value.get_ref().as_table().map(|table| (value.span().start, table))
}

fn refused(found: &Value, refusal: &Refusal, example: &str) -> String {
    match &refusal.bad {
        Bad::NotAccepted => format!("found {found}; accepted: {}; example: {example}", refusal.accepts),
        Bad::Because(says) => format!("found {found}; {says}; example: {example}"),
    }
}

/// The value is left out: it may be a secret that is no business of ours.
fn unknown_variable(name: &str) -> String {
    let bare = name.strip_prefix(keys::VARIABLE_PREFIX).unwrap_or(name);
    if bare.starts_with("ROUTE__") {
        return format!("{name} is ignored: routes can only be given in the file");
    }
    let from_kubernetes = bare == "PORT" || bare.starts_with("PORT_") || bare.starts_with("SERVICE_");
    let help = if from_kubernetes {
        "Kubernetes sets it for a service named onceward (enableServiceLinks: false stops that)".to_owned()
    } else {
        format!("nearest valid name: {}", unknown::nearest_variable(name))
    };
    format!("{name} is not a setting and is ignored; {help}")
}
