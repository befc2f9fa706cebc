//! The extensions beside inference: configuration, statistics, repository, logging and tracing. What they answer is found
//! out where REST finds it out.

use std::collections::BTreeMap;

use innkeeper_predict::Counted;
use prost::Message;

use super::answer::{Framed, framed};
use super::call::{Call, slot};
use super::frame::Messages;
use super::messages::inference::{
    self as pb, log_settings_request, log_settings_response, model_repository_parameter,
    trace_setting_response,
};
use super::{small, unimplemented, weigh};
use crate::app::offload;
use crate::error::Failure;
use crate::journal::Entry;
use crate::logging::{self, Logging, TRACE_LEVEL, TRACE_OFF, Wish};
use crate::manage::audit;
use crate::model_config::{self, ModelConfig};
use crate::model_stats::{self, ModelStats};
use crate::repository::{self, Load};
use crate::route::Route;

/// More files than any version has.
const FILES_MAX: usize = 1_024;

/// Answers a call of one of the extensions.
///
/// # Errors
/// 501 for a call that there is none of; whatever the call says.
pub(super) async fn answer(
    call: &Call,
    method: &str,
    messages: &mut Messages,
    entry: &Entry,
) -> Result<Framed, Failure> {
    Ok(match method {
        "ModelConfig" => framed(&config(call, &small(messages).await?)?),
        "ModelStatistics" => framed(&statistics(call, &small(messages).await?)?),
        "RepositoryIndex" => framed(&index(call, &small(messages).await?)),
        "RepositoryModelLoad" => framed(&load(call, messages, entry).await?),
        "RepositoryModelUnload" => framed(&unload(call, &small(messages).await?, entry).await?),
        "TraceSetting" => framed(&trace(call, &small(messages).await?)?),
        "LogSettings" => framed(&log(call, small(messages).await?, entry).await?),
        _ => return Err(unimplemented(method)),
    })
}

fn config(call: &Call, asked: &pb::ModelConfigRequest) -> Result<pb::ModelConfigResponse, Failure> {
    let deployment = call.deployment(&asked.name, &asked.version)?;
    let limits = call.limits().lowered(&deployment.limits);
    let config = model_config::of(&deployment, limits.requests_in_flight_max);
    Ok(pb::ModelConfigResponse { config: Some(config_message(&config)) })
}

fn config_message(config: &ModelConfig<'_>) -> pb::ModelConfig {
    let data_type = |dtype| {
        let dtype = pb::DataType::from_str_name(model_config::type_name(dtype));
        dtype.unwrap_or(pb::DataType::TypeInvalid) as i32
    };
    pb::ModelConfig {
        name: config.name.to_owned(),
        platform: config.platform.to_owned(),
        backend: config.backend.to_owned(),
        version_policy: Some(pb::ModelVersionPolicy {
            all: Some(pb::model_version_policy::All {}),
        }),
        max_batch_size: config.max_batch_size,
        input: config
            .input
            .iter()
            .map(|input| pb::ModelInput {
                name: input.name.to_owned(),
                data_type: data_type(input.data_type),
                dims: input.dims.clone(),
                optional: input.optional,
            })
            .collect(),
        output: config
            .output
            .iter()
            .map(|output| pb::ModelOutput {
                name: output.name.to_owned(),
                data_type: data_type(output.data_type),
                dims: output.dims.clone(),
                label_filename: output.label_filename.to_owned(),
            })
            .collect(),
        instance_group: config
            .instance_group
            .iter()
            .map(|group| pb::ModelInstanceGroup {
                name: group.name.to_owned(),
                count: group.count,
                kind: pb::model_instance_group::Kind::from_str_name(group.kind)
                    .map_or(0, |kind| kind as i32),
            })
            .collect(),
        default_model_filename: config.default_model_filename.to_owned(),
        scheduling_choice: scheduling(config),
        parameters: config
            .parameters
            .iter()
            .map(|(name, value)| {
                let value = pb::ModelParameter { string_value: value.string_value.to_owned() };
                ((*name).to_owned(), value)
            })
            .collect(),
        model_transaction_policy: Some(pb::ModelTransactionPolicy {
            decoupled: config.model_transaction_policy.decoupled,
        }),
        response_cache: Some(pb::ModelResponseCache { enable: config.response_cache.enable }),
    }
}

/// No model has both.
fn scheduling(config: &ModelConfig<'_>) -> Option<pb::model_config::SchedulingChoice> {
    use pb::model_config::SchedulingChoice::{DynamicBatching, SequenceBatching};
    if let Some(sequences) = &config.sequence_batching {
        let max_sequence_idle_microseconds = sequences.max_sequence_idle_microseconds;
        return Some(SequenceBatching(pb::ModelSequenceBatching {
            max_sequence_idle_microseconds,
        }));
    }
    config.dynamic_batching.as_ref().map(|batching| {
        let size = |size: &u64| i32::try_from(*size).unwrap_or(i32::MAX);
        DynamicBatching(pb::ModelDynamicBatching {
            preferred_batch_size: batching.preferred_batch_size.iter().map(size).collect(),
            max_queue_delay_microseconds: batching.max_queue_delay_microseconds,
            priority_levels: batching.priority_levels,
        })
    })
}

/// An empty name asks for all of the caller's own.
fn statistics(
    call: &Call,
    asked: &pb::ModelStatisticsRequest,
) -> Result<pb::ModelStatisticsResponse, Failure> {
    let caller = &call.caller.tenant;
    let found = if asked.name.is_empty() {
        model_stats::all(&call.app.predictor, caller, caller.as_str())
    } else {
        let endpoint = call.endpoint(&asked.name)?;
        model_stats::of(&endpoint, slot(&asked.version), caller)?
    };
    Ok(pb::ModelStatisticsResponse { model_stats: found.iter().map(stats_message).collect() })
}

fn stats_message(stats: &ModelStats) -> pb::ModelStatistics {
    let counted = &stats.statistics;
    let times =
        |counted: Counted| Some(pb::StatisticDuration { count: counted.count, ns: counted.ns });
    let batch_stats = counted.batches.iter().map(|batch| pb::InferBatchStatistics {
        batch_size: batch.batch_size,
        compute_input: times(batch.compute_input),
        compute_infer: times(batch.compute_infer),
        compute_output: times(batch.compute_output),
    });
    let mut batch_stats: Vec<_> = batch_stats.collect();
    batch_stats.sort_by_key(|batch| batch.batch_size);
    let memory = stats.asset_bytes.map(|byte_size| pb::MemoryUsage {
        r#type: "CPU".to_owned(),
        id: 0,
        byte_size,
    });
    pb::ModelStatistics {
        name: stats.name.clone(),
        version: stats.version.clone(),
        last_inference: counted.last_inference_ms,
        inference_count: counted.inference_count,
        execution_count: counted.execution_count,
        inference_stats: Some(pb::InferStatistics {
            success: times(counted.success),
            fail: times(counted.fail),
            queue: times(counted.queue),
            compute_input: times(counted.compute_input),
            compute_infer: times(counted.compute_infer),
            compute_output: times(counted.compute_output),
            cache_hit: times(counted.cache_hit),
            cache_miss: times(counted.cache_miss),
        }),
        batch_stats,
        memory_usage: memory.into_iter().collect(),
    }
}

/// A repository is a tenant's namespace; the empty name stands for the caller's own.
fn index(call: &Call, asked: &pb::RepositoryIndexRequest) -> pb::RepositoryIndexResponse {
    let caller = &call.caller.tenant;
    let owner = slot(&asked.repository_name).unwrap_or(caller.as_str());
    let found = repository::index(&call.app.predictor, caller, owner, asked.ready);
    let models = found.into_iter().map(|entry| pb::repository_index_response::ModelIndex {
        name: entry.name,
        version: entry.version,
        state: entry.state.to_owned(),
        reason: entry.reason.to_owned(),
    });
    pb::RepositoryIndexResponse { models: models.collect() }
}

async fn load(
    call: &Call,
    messages: &mut Messages,
    entry: &Entry,
) -> Result<pb::RepositoryModelLoadResponse, Failure> {
    let bytes_max = call.limits().upload_bytes_max.min(call.app.config.bundle_bytes_max);
    let held = messages.only(bytes_max.saturating_add(64 << 10)).await?;
    weigh::count(&held.bytes, 3, FILES_MAX).map_err(|bad| bad.at("parameters"))?;
    let bytes = held.bytes.clone();
    let asked = offload(bytes.len(), move || pb::RepositoryModelLoadRequest::decode(bytes)).await?;
    let asked = asked.map_err(|error| {
        Failure::bad_request(format!("not a RepositoryModelLoadRequest: {error}"))
    })?;
    let pb::RepositoryModelLoadRequest { repository_name, model_name: model, parameters } = asked;
    let owner = slot(&repository_name);
    let open =
        audit::begin(&call.app, &call.caller, &Route::Load { owner, model: &model }, entry).await?;
    let loaded = async {
        own(call, owner)?;
        repository::load(&call.app, &call.caller, &model, files(parameters)?).await
    };
    let loaded = loaded.await;
    if let Some(open) = open {
        open.end(&loaded).await;
    }
    loaded.map(|()| pb::RepositoryModelLoadResponse {})
}

fn files(parameters: BTreeMap<String, pb::ModelRepositoryParameter>) -> Result<Load, Failure> {
    use model_repository_parameter::ParameterChoice;
    let mut load = Load::default();
    for (name, value) in parameters {
        match (Load::file_path(&name), value.parameter_choice) {
            (Some(path), Some(ParameterChoice::BytesParam(file))) => {
                load.files.push((path.to_owned(), file));
            }
            (None, Some(ParameterChoice::StringParam(config))) if name == "config" => {
                load.config = Some(config);
            }
            _ => {
                let short: String = name.chars().take(128).collect();
                return Err(Failure::bad_request(format!(
                    "parameter {short:?}: loading takes config as a string and file:VERSION/NAME as bytes"
                )));
            }
        }
    }
    Ok(load)
}

async fn unload(
    call: &Call,
    asked: &pb::RepositoryModelUnloadRequest,
    entry: &Entry,
) -> Result<pb::RepositoryModelUnloadResponse, Failure> {
    // No model has dependents here, so that both values come to the same.
    if let Some(name) = asked.parameters.keys().find(|name| *name != "unload_dependents") {
        let short: String = name.chars().take(128).collect();
        return Err(Failure::bad_request(format!(
            "unknown parameter {short:?}; unloading takes unload_dependents"
        )));
    }
    let (owner, model) = (slot(&asked.repository_name), asked.model_name.as_str());
    let open =
        audit::begin(&call.app, &call.caller, &Route::Unload { owner, model }, entry).await?;
    let unloaded = async {
        own(call, owner)?;
        repository::unload(&call.app, &call.caller, model).await
    };
    let unloaded = unloaded.await;
    if let Some(open) = open {
        open.end(&unloaded).await;
    }
    unloaded.map(|()| pb::RepositoryModelUnloadResponse {})
}

fn own(call: &Call, owner: Option<&str>) -> Result<(), Failure> {
    match owner {
        Some(owner) if owner != call.caller.tenant.as_str() => Err(repository::not_the_owner()),
        _ => Ok(()),
    }
}

fn trace(
    call: &Call,
    asked: &pb::TraceSettingRequest,
) -> Result<pb::TraceSettingResponse, Failure> {
    if !asked.model_name.is_empty() {
        call.endpoint(&asked.model_name)?;
    }
    // No value clears a setting.
    let leaves_off = |(name, wish): (&String, &pb::trace_setting_request::SettingValue)| {
        wish.value.is_empty() || name == TRACE_LEVEL && wish.value == ["OFF"]
    };
    if !asked.settings.iter().all(leaves_off) {
        return Err(logging::no_tracing());
    }
    let settings = TRACE_OFF.map(|(name, value)| {
        let value = trace_setting_response::SettingValue { value: vec![value.to_owned()] };
        (name.to_owned(), value)
    });
    Ok(pb::TraceSettingResponse { settings: settings.into() })
}

/// Without settings nothing is changed.
async fn log(
    call: &Call,
    asked: pb::LogSettingsRequest,
    entry: &Entry,
) -> Result<pb::LogSettingsResponse, Failure> {
    if asked.settings.is_empty() {
        return Ok(log_message(&logging::of(&call.app, &call.caller)));
    }
    let open = audit::begin(&call.app, &call.caller, &Route::SetLogging, entry).await?;
    let set = wish(asked.settings).and_then(|wish| logging::set(&call.app, &call.caller, wish));
    if let Some(open) = open {
        open.end(&set).await;
    }
    Ok(log_message(&set?))
}

fn wish(settings: BTreeMap<String, log_settings_request::SettingValue>) -> Result<Wish, Failure> {
    use log_settings_request::setting_value::ParameterChoice::{
        BoolParam, StringParam, Uint32Param,
    };
    let mut wish = Wish::default();
    for (name, value) in settings {
        match (name.as_str(), value.parameter_choice) {
            ("log_file", Some(StringParam(value))) => wish.log_file = Some(value),
            ("log_format", Some(StringParam(value))) => wish.log_format = Some(value),
            ("log_info", Some(BoolParam(value))) => wish.log_info = Some(value),
            ("log_warning", Some(BoolParam(value))) => wish.log_warning = Some(value),
            ("log_error", Some(BoolParam(value))) => wish.log_error = Some(value),
            ("log_verbose_level", Some(Uint32Param(value))) => {
                wish.log_verbose_level = Some(value);
            }
            (name, _) => {
                let short: String = name.chars().take(128).collect();
                return Err(Failure::bad_request(format!(
                    "there is no setting {short:?} of this type"
                )));
            }
        }
    }
    Ok(wish)
}

fn log_message(logging: &Logging) -> pb::LogSettingsResponse {
    use log_settings_response::setting_value::ParameterChoice::{
        BoolParam, StringParam, Uint32Param,
    };
    let settings = [
        ("log_file", StringParam(logging.log_file.to_owned())),
        ("log_info", BoolParam(logging.log_info)),
        ("log_warning", BoolParam(logging.log_warning)),
        ("log_error", BoolParam(logging.log_error)),
        ("log_verbose_level", Uint32Param(logging.log_verbose_level)),
        ("log_format", StringParam(logging.log_format.to_owned())),
    ];
    let settings = settings.map(|(name, value)| {
        let value = log_settings_response::SettingValue { parameter_choice: Some(value) };
        (name.to_owned(), value)
    });
    pb::LogSettingsResponse { settings: settings.into() }
}
